"""`make bench-attack`: how many guesses of a full-speed attack are answered before every reverse proxy drops it.

One address attacks four reverse proxies over eight keep-alive connections each; every connection sends its next
guess as soon as the last is answered, and the conference node answers after 5 ms. maxretry is 5. It counts the answers
that the attacker received; the node's own count is higher by the answers that were dropped on their way.

Somebody joins ten times a second meanwhile, and should not notice.

Each run has a lab of its own: after an unban the attacker's kernel would send the guesses of the run before again.
Everything runs on one machine, so the attacker, the node and four nginx use processor time that the daemons need.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.lab.clients import Bystander
from tests.lab.guesser import Guesser
from tests.lab.lab import Lab
from tests.lab.machine import machine
from tests.lab.process import wait_until

RPS, CONNECTIONS, DELAY_MS = 4, 8, 5

#: Guesses in flight at once, over all reverse proxies.
IN_FLIGHT = RPS * CONNECTIONS

#: The most that may be answered: in the median of the runs, and in each.
MEDIAN_LIMIT, LIMIT = 32, 45

#: What a bystander may wait for a join meanwhile, s: in the median, and for each.
JOIN_MEDIAN_S, JOIN_S = 0.05, 0.5

#: How often somebody joins while an attack lasts, at least.
JOINS = 8


@dataclass(frozen=True, slots=True)
class Outcome:
    received: int  #: answers that reached the attacker
    answered: int  #: guesses that the node answered
    last_answer_ms: float  #: after the attack began
    starved: bool  #: nothing was answered any more at the end
    joins: list[float]  #: how long each join of a bystander took, s
    failures: int  #: joins that failed

    @property
    def verdict(self) -> str:
        """What was wrong, or ""."""
        if not self.starved:
            return "   NEVER BANNED"
        if self.failures or max(self.joins) > JOIN_S:
            return "   A BYSTANDER NOTICED"
        return "   ABOVE THE LIMIT" if self.received > LIMIT else ""


def attack() -> Outcome:
    """One attack on a new lab."""
    with Lab(rps=RPS, delay_ms=DELAY_MS) as lab:
        guesser = Guesser(lab.addresses(), connections=CONNECTIONS, seconds=10, starved_after=1)
        bystander = Bystander(lab.addresses(), interval=0.1, prompt=False)
        visiting = lab.bystander.namespace.start(bystander.run)
        loot = lab.attacker.namespace.call(guesser.run)
        wait_until(lambda: bystander.visits.joins >= JOINS, f"{JOINS} joins")
        bystander.stop()
        visits = visiting.result()
        last_answer_ms = (loot.last_answer - loot.began) * 1_000
        wrong = lab.node.truth()["wrong"]
        return Outcome(loot.total, wrong, last_answer_ms, loot.starved, visits.latencies, len(visits.failures))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print; 1 when a limit does not hold."""
    parser = argparse.ArgumentParser(prog="bench.attack")
    parser.add_argument("--runs", type=int, default=5)
    runs: int = parser.parse_args(arguments).runs
    print(machine())
    print(f"method    {RPS} RPs x {CONNECTIONS} keep-alive connections from one address, maxretry 5,")
    print(f"          node answers in {DELAY_MS} ms, a new lab for each run; answers that the attacker received\n")
    received, joins = list[int](), list[float]()
    good = True
    for run in range(1, runs + 1):
        outcome = attack()
        received.append(outcome.received)
        joins += outcome.joins
        good &= not outcome.verdict
        print(
            f"run {run}     {outcome.received:4} received, {outcome.answered:4} answered by the node, the last after"
            f" {outcome.last_answer_ms:.0f} ms{outcome.verdict}",
            flush=True,
        )
    median = statistics.median(received)
    good &= median <= MEDIAN_LIMIT and statistics.median(joins) < JOIN_MEDIAN_S
    print(f"\nreceived  min {min(received)}, median {median:g}, max {max(received)} of {IN_FLIGHT} in flight")
    print(
        f"joins     median {statistics.median(joins) * 1_000:.1f} ms, max {max(joins) * 1_000:.1f} ms, of a bystander"
    )
    print(f"limits    median <= {MEDIAN_LIMIT}, each run <= {LIMIT}; joins: median < {JOIN_MEDIAN_S * 1_000:.0f} ms,")
    print(f"          each < {JOIN_S * 1_000:.0f} ms: {'hold' if good else 'DO NOT HOLD'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
