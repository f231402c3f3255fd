"""How soon a ban is in the kernel. bench/latency.py tells how it is measured; this is a smaller round of it."""

from __future__ import annotations

from bench.latency import Latencies, measure
from tests.lab.lab import Lab

#: Others may use this machine at the same time, which ruins a p99: the best of so many measurements is judged.
TRIES = 3


def test_a_ban_is_in_every_kernel_within_three_milliseconds() -> None:
    """Median below 3 ms and p99 below 15 ms on every reverse proxy, in one of up to three measurements."""
    found: list[Latencies] = []
    with Lab(rps=2) as lab:
        while len(found) < TRIES and not any(each.good() for each in found):
            found.append(measure(lab, 60, network=f"203.{len(found)}"))
    assert any(each.good() for each in found), "\n".join(line for each in found for line in each.lines())
