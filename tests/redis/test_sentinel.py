"""Redis behind sentinels: its master is found, lost and found again, and one that is none any more is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis

from enforcer.agent import Agent
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.follower import Follower
from shared.addresses import Network
from shared.errors import StoreError
from shared.exempt.exemptions import Exemptions
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Redis, Settings
from shared.store.connection import PATIENT_S, connect
from shared.store.sentinel import ASK_EVERY_S, SENTINEL_S
from shared.store.store import Store
from tests.lab.loopback import addresses
from tests.lab.process import PATIENCE_S, wait_until
from tests.lab.redis_server import RedisServer
from tests.lab.sentinel import NAME, Sentinel, Watched, watched

A, B, C = Network("203.0.113.7"), Network("203.0.113.8"), Network("203.0.113.9")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("ha")) as site:
        yield site


def to(url: str, **more: Any) -> Settings:
    return msgspec.structs.replace(Settings(), redis=Redis(url=url, **more), ignoreself=False)


@pytest.fixture
def settings(site: Watched) -> Settings:
    return to(site.url)


def complaint(settings: Settings, about: str) -> str:
    """What is said, about this, when it cannot be used; a sentinel may be slow once, which is another complaint."""
    said = ""

    def is_about() -> bool:
        nonlocal said
        with (
            pytest.raises(StoreError) as caught,
            connect(settings, "test", PATIENT_S) as store,
        ):
            store.call("PING")
        said = str(caught.value)
        return about in said

    wait_until(is_about, f"a complaint about {about}")
    assert "\n" not in said
    return said


def test_two_frozen_sentinels_delay_a_new_connection_by_their_two_timeouts_and_the_next_by_nothing(
    site: Watched, settings: Settings, connected: list[str]
) -> None:
    """Each is asked once; the one that answered is the first to be asked the next time."""
    frozen, answering = [sentinel.host for sentinel in site.sentinels[:2]], site.sentinels[2].host
    for sentinel in site.sentinels[:2]:
        sentinel.freeze()
    try:
        with connect(settings, "test", PATIENT_S).client as client:
            began = time.monotonic()
            assert client.ping()
            assert time.monotonic() - began >= 2 * SENTINEL_S
            [master] = set(connected) - {*frozen, answering}
            assert connected == [*frozen, answering, master]
            client.connection_pool.disconnect()
            assert client.ping()
            assert not set(connected[4:]) & set(frozen)
    finally:
        for sentinel in site.sentinels[:2]:
            sentinel.thaw()
    site.await_whole()


def test_a_database_number_is_used(site: Watched) -> None:
    with connect(to(f"{site.url}/3"), "test", PATIENT_S).client as client:
        client.set("here", 1)
    with site.master.client() as client:
        client.select(3)
        assert client.get("here") == b"1"


def test_an_unknown_name_and_sentinels_that_are_none_are_told_in_one_line(site: Watched) -> None:
    sentinel, master = site.sentinels[0].host, site.master.url.removeprefix("redis://").removesuffix("/0")
    said = complaint(to(f"sentinel://{sentinel}/home"), f"{sentinel}:26379: knows no master called home")
    assert "no sentinel names a master" in said
    said = complaint(to(f"sentinel://{sentinel}:1,{master}/home"), f"{master}: unknown command")
    assert f"{sentinel}:1: Error 111" in said


def test_sentinels_have_a_name_and_a_password_of_their_own(site: Watched, tmp_path: Path) -> None:
    [host] = addresses(1)
    master = next(host for host, server in site.servers.items() if server is site.master)
    more = ["user default off", "user pinban on >hunter2 +@all"]
    guarded = Sentinel(tmp_path / "s", host, master, None, more=more)
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    url = f"sentinel://{host}/{NAME}"
    guarded.start()
    try:
        known = to(url, sentinel_username="pinban", sentinel_password_file=str(secret))

        def answers() -> bool:
            with connect(known, "test", PATIENT_S).client as client, suppress(redis.RedisError):
                return bool(client.ping())
            return False

        guarded.await_ready(answers)
        assert complaint(to(url), "Authentication required")
    finally:
        guarded.stop()


def test_without_sentinels_whoever_is_connected_goes_on(site: Watched, settings: Settings) -> None:
    firewall = DryRunFirewall()
    agent = Agent(firewall, Exemptions(settings))
    agent.arm()
    follower = Follower(settings, agent)
    with connect(settings, "test", PATIENT_S).client as client:
        ledger = Ledger(Store(client))
        ledger.heartbeat("rx1")
        follower.start()
        wait_until(lambda: not follower.trouble, "it follows")
        for sentinel in site.sentinels:
            sentinel.kill()
        try:
            resyncs = agent.tally["resyncs"]
            until = time.monotonic() + 3 * ASK_EVERY_S
            while time.monotonic() < until:
                ledger.heartbeat("rx1")
                assert not follower.trouble
                time.sleep(0.1)
            ledger.ban(NewBan(A, 600_000, "pin", "[]", "rx1"))
            wait_until(lambda: A in firewall.bans(), "the ban arrives")
            assert agent.tally["resyncs"] == resyncs
        finally:
            follower.stop()
            for sentinel in site.sentinels:
                sentinel.start()
            follower.join(PATIENCE_S)
    site.await_whole()


def test_a_master_that_the_sentinels_have_given_up_is_left_and_what_only_it_knew_stays_banned(
    site: Watched, settings: Settings, deaf_to_silence: None
) -> None:
    """The sentinels lose sight of it, our daemons do not: for a moment there are two masters, and both take bans."""
    firewall = DryRunFirewall()
    agent = Agent(firewall, Exemptions(settings))
    agent.arm()
    follower = Follower(settings, agent)
    with connect(settings, "test", PATIENT_S).client as client:
        ledger = Ledger(Store(client))

        def ban(network: Network) -> None:
            ledger.ban(NewBan(network, 600_000, "pin", "[]", "rx1"))

        ban(A)
        follower.start()
        wait_until(lambda: not follower.trouble, "it follows")
        left = site.master
        site.blind(left)  # from here on no replica gets any change
        ban(B)
        wait_until(lambda: B in firewall.bans(), "the ban arrives")
        promoted = site.await_failover(left)
        wait_until(lambda: bool(client.set("probe", "x")) and _has(promoted, "probe"), "the receiver has left it")
        ban(C)  # it has B's revision
        with connect(to(left.url), "test", PATIENT_S).client as stuck:  # a receiver that sees only the old master

            def left_too() -> bool:
                Ledger(Store(stuck)).heartbeat("rx2")
                return C in firewall.bans()

            wait_until(left_too, "the enforcer has left it although it sends heartbeats")
        ledger.unban(A, "", "")
        wait_until(lambda: firewall.bans().keys() == {B, C}, "bans and unbans arrive, and no ban was lost")
        wait_until(lambda: not follower.trouble, "all is well")
    follower.stop()
    follower.join(PATIENCE_S)
    site.sight(left)
    site.await_whole()


def _has(server: RedisServer, key: str) -> bool:
    with server.client() as client:
        return bool(client.exists(key))
