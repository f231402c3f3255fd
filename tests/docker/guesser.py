"""A client that guesses PINs through each reverse proxy in turn, and prints the answers. Runs in a container.

python -m tests.docker.guesser rp1 rp2
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tests.lab.clients import guess

#: Between two of the first guesses, and between two looks at a proxy that is silent, s.
PACE_S, LOOK_S = 0.3, 1.0

#: How long a proxy may take before it is called silent, s; the node takes 5 ms.
PATIENCE_S = 0.5

#: Failures that are a ban: rules.pin.maxretry.
ENOUGH = 5


def say(text: str) -> None:
    print(text, flush=True)


def first_guesses(proxies: Sequence[str]) -> None:
    """So many that the next ones should not be answered."""
    for number in range(1, ENOUGH + 1):
        proxy = proxies[(number - 1) % len(proxies)]
        answer = guess(proxy, f"{number:06}", timeout=PATIENCE_S)
        say(f"guess {number} through {proxy}: {answer.status if answer else 'no answer'}")
        if number < ENOUGH:
            time.sleep(PACE_S)


def until_silent(proxies: Sequence[str]) -> None:
    """Go on as fast as answers come, and tell when the last one of each proxy came."""
    fifth_at = time.monotonic()
    last = dict.fromkeys(proxies, 0.0)
    listening = list(proxies)
    number = ENOUGH
    while listening:
        for proxy in list(listening):
            number += 1
            if guess(proxy, f"{number:06}", timeout=PATIENCE_S):
                last[proxy] = time.monotonic() - fifth_at
            else:
                listening.remove(proxy)
                say(f"{proxy} is silent; its last answer came {last[proxy]:.3f} s after the answer to guess {ENOUGH}")


def main(proxies: Sequence[str]) -> None:
    """Guess, be banned, and look now and then whether it still holds; until killed."""
    first_guesses(proxies)
    until_silent(proxies)
    silent_since = time.monotonic()
    while True:
        time.sleep(LOOK_S)
        for proxy in proxies:
            answer = guess(proxy, "000000", timeout=PATIENCE_S)
            if answer:
                say(f"{proxy} answers {answer.status}, after {time.monotonic() - silent_since:.1f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
