"""python -m tests.ground_truth --requests 100000 --seed 7: as many requests as there is time for; needs root."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.ground_truth.trial import ADVISED, ONE_PIN, PLAIN, ROUND, rounds

SITES = {"advised": ADVISED, "one-pin": ONE_PIN, "plain": PLAIN}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.ground_truth")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--nginx", choices=SITES, default="advised", help="as advised, with one pin header, or plain")
    options = parser.parse_args()
    wrong = done = 0
    for number, outcome in enumerate(rounds(options.seed, options.requests, server=SITES[options.nginx])):
        done += outcome.requests
        wrong += len(outcome.differences)
        print(f"{done:,} requests, {wrong} differences; seed {options.seed + number}: {time.strftime('%X')}")
        print(f"  nodes   {dict(outcome.verdicts)}")
        print(f"  pinban  {dict(outcome.pinban)}, of these 499: {dict(outcome.hung_up)}")
        print(f"  pexapp  {dict(outcome.pexapp)}, {outcome.too_long} too long for a datagram")
        for difference in outcome.differences[:20]:
            print(difference)
        if outcome.differences:
            size = f"--requests {min(ROUND, options.requests)} --nginx {options.nginx}"
            print(f"replay: python -m tests.ground_truth {size} --seed {options.seed + number}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
