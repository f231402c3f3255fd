"""The master behind sentinels dies, freezes or is replaced under 2,000 failures a second, with daemons and kernel."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.duty import PER_SECOND, Duty, Load, on_duty
from tests.lab.netns import Namespace, unique_prefix
from tests.lab.process import wait_until
from tests.lab.redis_server import RedisServer
from tests.lab.sentinel import NAME, Watched, watched


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    namespace = Namespace(f"{unique_prefix()}-ha")
    namespace.create()
    yield namespace
    namespace.remove()


@pytest.fixture(scope="module")
def site(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("ha"), namespace) as site:
        yield site


@pytest.fixture(scope="module")
def duty(site: Watched, namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duty]:
    with on_duty(tmp_path_factory.mktemp("duty"), namespace, site.url) as duty:
        yield duty


def under_load(site: Watched, duty: Duty, octet: int, fault: Callable[[RedisServer], object]) -> tuple[Load, set[str]]:
    """What was sent while the master was lost, and who was dropped before. All is counted when it returns."""
    site.await_replica()
    before = duty.received()
    with duty.load(octet) as load:
        wait_until(lambda: len(load.dropped) > 20, "bans come")
        standing, left = duty.kernel(), site.master
        fault(left)
        site.await_failover(left)
        moment = time.monotonic()
        wait_until(lambda: load.bans_since(moment) > 20, "bans come again")
    duty.await_settled(before + load.sent)
    duty.await_followed()
    return load, standing


def lost(duty: Duty, load: Load, standing: set[str], said: str) -> int:
    """No ban was lost, no failure counted twice; how many failures were lost."""
    kernel = duty.kernel()
    assert standing <= kernel, "every standing ban stands"
    assert duty.ledger() <= kernel, "every ban of the ledger is in the kernel"
    lost = load.lost(duty.counted(load.strays), kernel)
    print(f"\n{said}: the slowest ban took {load.longest_wait():.1f} s; {lost} of {load.sent} failures lost")
    return lost


@pytest.mark.row(6)
def test_a_killed_master_costs_seconds_and_no_ban(site: Watched, duty: Duty) -> None:
    killed: list[RedisServer] = []

    def kill(master: RedisServer) -> None:
        killed.append(master)
        master.kill()

    load, standing = under_load(site, duty, 1, kill)
    # Asynchronous replication: what the replica had not received in the master's last moment is gone. How much that is
    # depends on the host; what waits in the receiver, which is far more, must not be lost.
    assert lost(duty, load, standing, "SIGKILL") <= load.sent // 2
    killed[0].start()


@pytest.mark.row(6)
def test_a_frozen_master_costs_seconds_and_no_ban(site: Watched, duty: Duty) -> None:
    frozen: list[RedisServer] = []

    def freeze(master: RedisServer) -> None:
        frozen.append(master)
        master.freeze()

    load, standing = under_load(site, duty, 31, freeze)
    assert lost(duty, load, standing, "SIGSTOP") <= load.sent // 2
    frozen[0].thaw()


def test_a_failover_by_hand_loses_nothing_when_writes_are_paused_before(site: Watched, duty: Duty) -> None:
    def fail_over(master: RedisServer) -> None:
        paused.append(master)
        with master.client() as client:
            client.client_pause(30_000, all=False)
        site.await_in_step(master)
        site.sentinels[0].ask("FAILOVER", NAME)

    paused: list[RedisServer] = []
    load, standing = under_load(site, duty, 61, fail_over)
    with paused[0].client() as client:
        client.client_unpause()
    assert lost(duty, load, standing, "SENTINEL FAILOVER, writes paused") == 0


def test_a_failover_by_hand_without_a_pause_loses_counts_and_no_ban(site: Watched, duty: Duty) -> None:
    """Until the sentinels tell everybody, the old master takes failures."""
    load, standing = under_load(site, duty, 91, lambda _: site.sentinels[-1].ask("FAILOVER", NAME))
    assert lost(duty, load, standing, "SENTINEL FAILOVER") < 5 * PER_SECOND


def test_the_logs_name_no_error_of_ours(duty: Duty) -> None:
    for log in (duty.receiver.log, duty.enforcer.log):
        assert "Traceback" not in Path(log).read_text()
