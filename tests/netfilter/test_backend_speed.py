"""What the backends cost, one ban at a time and many at once: by what else this machine does in the same moments."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence

import pytest

from enforcer.firewall.port import Firewall
from enforcer.reconcile import Plan
from shared.addresses import Network


@pytest.fixture
def firewall(rp: str, make: Callable[..., Firewall]) -> Firewall:
    firewall = make()
    firewall.install()
    return firewall


def took_s(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ban(firewall: Firewall, numbers: Sequence[int]) -> None:
    networks = [Network(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}") for n in numbers]
    firewall.apply(Plan(dict.fromkeys(networks, 300_000), frozenset()))


def test_one_ban_takes_less_than_starting_a_process(firewall: Firewall) -> None:
    bans, processes = [], []
    for number in range(100):
        bans.append(took_s(lambda: ban(firewall, [number])))  # noqa: B023
        processes.append(took_s(lambda: subprocess.run(["true"], check=True)))
    assert len(firewall.bans()) == 100
    assert statistics.median(bans) < statistics.median(processes)


def test_reading_ten_times_the_bans_takes_some_ten_times_as_long(firewall: Firewall) -> None:
    few, many = range(10_000), range(10_000, 100_000)
    ban(firewall, few)
    short = [took_s(firewall.bans) for _ in range(5)]
    ban(firewall, many)
    long = [took_s(firewall.bans) for _ in range(5)]
    assert len(firewall.bans()) == 100_000
    assert statistics.median(long) < 40 * statistics.median(short)
