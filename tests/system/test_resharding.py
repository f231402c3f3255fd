"""Slots of a Redis Cluster move and its nodes die under 2,000 failures a second, daemons and kernel included."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.store.keys import Keys
from tests.lab.cluster import Cluster, cluster
from tests.lab.duty import PER_SECOND, Duty, Load, on_duty
from tests.lab.netns import Namespace, unique_prefix
from tests.lab.process import wait_until


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    namespace = Namespace(f"{unique_prefix()}-ha")
    namespace.create()
    yield namespace
    namespace.remove()


@pytest.fixture(scope="module")
def site(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("ha"), namespace, replicas=3) as site:
        yield site


@pytest.fixture(scope="module")
def duty(site: Cluster, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duty]:
    with on_duty(tmp_path_factory.mktemp("duty"), namespace, site.url) as duty:
        yield duty


def lost_under_load(duty: Duty, octet: int, fault: Callable[[Load], object], said: str) -> int:
    """No ban was lost, no failure counted twice; how many failures were lost."""
    before = duty.received()
    with duty.load(octet) as load:
        wait_until(lambda: len(load.dropped) > 20, "bans come")
        standing = duty.kernel()
        fault(load)
        moment = time.monotonic()
        wait_until(lambda: load.bans_since(moment) > 20, "bans come again")
    duty.await_settled(before + load.sent)
    duty.await_followed()
    kernel = duty.kernel()
    assert standing <= kernel, "every standing ban stands"
    lost = load.lost(duty.counted(load.strays), kernel)
    print(f"\n{said}: the slowest ban took {load.longest_wait():.1f} s; {lost} of {load.sent} failures lost")
    return lost


def test_the_ledger_moves_to_another_node_and_nobody_notices(site: Cluster, duty: Duty) -> None:
    def move(_: Load) -> None:
        slot = site.slot(Keys().rev)
        target = site.another(slot)
        assert site.move(slot, target) > 20
        assert site.holder(slot) == target

    assert lost_under_load(duty, 1, move, "the ledger moved") == 0
    assert duty.kernel() == duty.ledger()


def test_counters_move_while_they_count_and_each_failure_counts_once(site: Cluster, duty: Duty) -> None:
    def move(load: Load) -> None:
        known, fresh = load.strays[-260:-250], load.strays[-10:]  # those of a moment ago may not be counted yet
        slots = {site.slot(f"{{{address}}}") for address in (*known, *fresh)}
        assert sum(site.move(slot, site.another(slot)) for slot in slots) > len(known)

    assert lost_under_load(duty, 31, move, "counters moved") == 0
    assert duty.kernel() == duty.ledger()


def test_the_ledgers_node_dies_and_its_replica_takes_over(site: Cluster, duty: Duty) -> None:
    """After that alone a failure may be missing: the replica need not have had the last."""

    def kill(_: Load) -> None:
        host = site.holder(site.slot(Keys().rev))
        site.servers[host].kill()
        site.await_heir(host)

    assert lost_under_load(duty, 61, kill, "a node killed") <= PER_SECOND // 4
    assert duty.ledger() <= duty.kernel()


def test_the_logs_name_no_error_of_ours(duty: Duty) -> None:
    for log in (duty.receiver.log, duty.enforcer.log):
        assert "Traceback" not in Path(log).read_text()
