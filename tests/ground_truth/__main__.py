"""python -m tests.ground_truth --requests 100000 --seed 7: as many requests as there is time for; needs root."""

from __future__ import annotations

import argparse
import secrets
import sys
import time

from tests.ground_truth.fronts import FRONTS, WAITING
from tests.ground_truth.trial import ROUND, rounds


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.ground_truth")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1_000_000))
    parser.add_argument("--nginx", choices=FRONTS, help="one front alone; else all but the plain one")
    options = parser.parse_args()
    wrong = done = 0
    fronts = [FRONTS[options.nginx]] if options.nginx else WAITING
    for number, outcome in enumerate(rounds(options.seed, options.requests, fronts=fronts)):
        done += outcome.requests
        wrong += len(outcome.differences)
        print(f"{done:,} requests, {wrong} differences; seed {options.seed + number}: {time.strftime('%X')}")
        print(f"  nodes      {dict(outcome.verdicts)}")
        print(f"  guesses    {dict(outcome.guesses)}")
        for name, lines in outcome.lines.items():
            print(f"  {name:9}  {dict(lines)}")
        print(f"  pinban's 499: {dict(outcome.hung_up)}, of these {outcome.unasked} with a PIN that no node was asked")
        print(f"  {outcome.too_long} lines too long for a datagram")
        for difference in outcome.differences[:20]:
            print(difference)
        if outcome.differences:
            size = f"--requests {min(ROUND, options.requests)}" + (f" --nginx {options.nginx}" if options.nginx else "")
            print(f"replay: python -m tests.ground_truth {size} --seed {options.seed + number}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
