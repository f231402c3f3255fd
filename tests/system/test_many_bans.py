"""A hundred thousand standing bans: the start, the restart, and one more. How long they take: `make bench-bans`."""

from __future__ import annotations

import re
import statistics
import threading
from collections.abc import Iterator

import pytest

from bench.bans import Site, site
from tests.lab.kernel import members

FEW, MANY = 10_000, 100_000


@pytest.fixture(scope="module")
def crowd() -> Iterator[Site]:
    with site() as crowd:
        yield crowd


def test_ten_times_the_bans_cost_a_start_no_more_than_ten_times_the_work(crowd: Site) -> None:
    """In processor time, which others on this machine do not take from us."""
    busy = []
    for bans in (FEW, MANY):
        crowd.fill(bans)
        crowd.start()
        busy.append(crowd.busy())
        crowd.stop()
        crowd.disarm()
    assert busy[1] < MANY / FEW * busy[0], busy


def test_one_more_ban_costs_about_what_it_costs_among_a_few(crowd: Site) -> None:
    """By turns in both places, so that whatever slows this machine slows both."""
    few, many = list[float](), list[float]()
    with site() as quiet:
        quiet.fill(100)
        quiet.start()
        crowd.start()
        for _ in range(12):
            few += quiet.one_more(0.25, per_s=100)
            many += crowd.one_more(0.25, per_s=100)
    assert statistics.median(many) < 5 * statistics.median(few), (statistics.median(many), statistics.median(few))
    assert crowd.memory() < 150


def test_a_restart_removes_no_ban_for_a_moment(crowd: Site) -> None:
    assert crowd.enforcer.running
    before = members(crowd.namespace)
    fewest, over = [len(before)], threading.Event()

    def watch() -> None:
        while not over.is_set():
            told = crowd.namespace.run(["ipset", "list", "-t"]).stdout
            fewest.append(sum(map(int, re.findall(r"^Number of entries: (\d+)$", told, re.MULTILINE))))

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        crowd.enforcer.kill()
        crowd.stop()
        crowd.start_again()
    finally:
        over.set()
        watching.join()
    assert len(fewest) > 10
    assert min(fewest) == len(before)
    assert members(crowd.namespace) == before
