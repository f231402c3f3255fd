"""`make bench-attack`: how many guesses of a full-speed attack are answered before every reverse proxy drops it.

One address attacks four reverse proxies over eight keep-alive connections each; every connection sends its next
guess as soon as the last is answered, and the conference node answers after 5 ms. maxretry is 5. It counts the answers
that the attacker received; the node's own count is higher by the answers that were dropped on their way.

Each run has a lab of its own: after an unban the attacker's kernel would send the guesses of the run before again.
Everything runs on one machine, so the attacker, the node and four nginx use processor time that the daemons need.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab.guesser import Guesser
from tests.lab.lab import Lab
from tests.lab.machine import machine

#: The most guesses that may be answered, over all reverse proxies.
LIMIT = 60

RPS, CONNECTIONS, DELAY_MS = 4, 8, 5


@dataclass(frozen=True, slots=True)
class Outcome:
    received: int  #: answers that reached the attacker
    answered: int  #: guesses that the node answered
    last_answer_ms: float  #: after the attack began
    starved: bool  #: nothing was answered any more at the end

    @property
    def verdict(self) -> str:
        """What was wrong, or ""."""
        if not self.starved:
            return "   NEVER BANNED"
        return "   ABOVE THE LIMIT" if self.received > LIMIT else ""


def attack() -> Outcome:
    """One attack on a new lab."""
    with Lab(rps=RPS, delay_ms=DELAY_MS) as lab:
        guesser = Guesser(lab.addresses(), connections=CONNECTIONS, seconds=10, starved_after=1)
        loot = lab.attacker.namespace.call(guesser.run)
        last_answer_ms = (loot.last_answer - loot.began) * 1_000
        return Outcome(loot.total, lab.node.truth()["wrong"], last_answer_ms, loot.starved)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 when a run is above the limit."""
    parser = argparse.ArgumentParser(prog="bench.attack")
    parser.add_argument("--runs", type=int, default=5)
    runs: int = parser.parse_args(arguments).runs
    print(machine())
    print(f"method    {RPS} RPs x {CONNECTIONS} keep-alive connections from one address, maxretry 5,")
    print(f"          node answers in {DELAY_MS} ms, a new lab for each run; answers that the attacker received\n")
    received = []
    good = True
    for run in range(1, runs + 1):
        outcome = attack()
        received.append(outcome.received)
        good &= not outcome.verdict
        print(
            f"run {run}     {outcome.received:4} received, {outcome.answered:4} answered by the node, the last after"
            f" {outcome.last_answer_ms:.0f} ms{outcome.verdict}",
            flush=True,
        )
    median = statistics.median(received)
    print(f"\nreceived  min {min(received)}, median {median:g}, max {max(received)}; limit {LIMIT}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
