"""`make soak`, or `python -m tests.chaos --seed N --minutes M`: seed after seed until the time is up or one fails."""

from __future__ import annotations

import argparse
import random
import sys
import time

from tests.chaos.run import ChaosError, run

#: How long one seed runs, minutes: short enough to run again, long enough for faults to overlap.
MINUTES = 3.0


def main() -> int:
    """Run; 1 when a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="this seed alone, for the whole time; without it random ones")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long altogether (60)")
    options = parser.parse_args()
    ends = time.monotonic() + options.minutes * 60
    runs = 0
    while not runs or time.monotonic() < ends - 30:
        seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
        minutes = options.minutes if options.seed is not None else min(MINUTES, (ends - time.monotonic()) / 60)
        print(f"seed {seed}, {minutes:.1f} minutes", flush=True)
        try:
            found = run(seed, minutes * 60, lambda line: print(line, flush=True))
        except ChaosError as error:
            print(error, file=sys.stderr)
            return 1
        runs += 1
        print(f"seed {seed} balances: {found}", flush=True)
        if options.seed is not None:
            break
    print(f"{runs} runs balance")
    return 0


if __name__ == "__main__":
    sys.exit(main())
