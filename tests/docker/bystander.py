"""A client that joins with the right PIN through each reverse proxy in turn, and prints the answers. In a container.

python -m tests.docker.bystander rp1 rp2
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tests.lab.clients import PIN, guess

#: Between two joins, s; a report comes after so many.
PACE_S, REPORT = 0.25, 20


def main(proxies: Sequence[str]) -> None:
    """Join until killed; print every failure at once."""
    joins = failures = 0
    slowest_s = 0.0
    while True:
        proxy = proxies[(joins + failures) % len(proxies)]
        begun = time.monotonic()
        answer = guess(proxy, PIN)
        if answer and answer.status == 200:
            joins += 1
            slowest_s = max(slowest_s, time.monotonic() - begun)
        else:
            failures += 1
            print(f"not let in through {proxy}: {answer.status if answer else 'no answer'}", flush=True)
        if (joins + failures) % REPORT == 0:
            print(f"{joins} joins, {failures} failures; the slowest took {slowest_s * 1000:.0f} ms", flush=True)
        time.sleep(PACE_S)


if __name__ == "__main__":
    main(sys.argv[1:])
