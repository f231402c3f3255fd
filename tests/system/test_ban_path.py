"""A ban reaches the kernels by its own event, not by a snapshot. `make bench-latency` measures how long that takes."""

from __future__ import annotations

import statistics

from bench.latency import measure
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import number

BANS = 60

#: A way by polling, once in half a second or more, cannot do it in this time, ms.
POLLED_MS = 250


def told(lab: Lab, word: str) -> list[int]:
    return [number(lab.redis, rp.host.name, word) for rp in lab.rps]


def test_a_ban_is_in_every_kernel_by_its_event_alone() -> None:
    """No snapshot, no repair and no look at the ledger has a part in it."""
    with Lab(rps=2) as lab:
        measure(lab, 1, network="203.1")  # a ledger begins with its first change, and every agent with a snapshot of it
        wait_until(lambda: all(told(lab, "resyncs")), "both have read it")
        wait_until(lambda: told(lab, "applied_rev") == [1, 1], "both tell of the first ban")
        before = {word: told(lab, word) for word in ("resyncs", "gaps", "repairs")}
        found = measure(lab, BANS)
        wait_until(lambda: told(lab, "applied_rev") == [BANS + 1] * 2, "both tell of the last ban")
        assert {word: told(lab, word) for word in before} == before
        assert all(statistics.median(ms) < POLLED_MS for ms in found.of.values()), found.lines()
