"""The follower with a real Redis and the dry-run firewall: it ends up where the ledger is, whatever happens."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis
from redis.retry import Retry

from enforcer.agent import Agent
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.follower import Follower
from shared.addresses import Network
from shared.exempt.exemptions import Exemptions
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.process import PATIENCE_S, wait_until
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS, text

A, B, FRIEND = Network("203.0.113.7"), Network("2001:db8:1:2::/64"), Network("198.51.100.9")


@dataclass
class Proxy:
    """A reverse proxy's agent that follows, and the ledger it follows."""

    ledger: Ledger
    firewall: DryRunFirewall
    agent: Agent
    follower: Follower

    def ban(self, network: Network, ms: int = 600_000) -> None:
        self.ledger.ban(NewBan(network, ms, "pin", "[]", "rx1"))

    def start(self) -> None:
        self.follower.start()
        wait_until(lambda: not self.follower.trouble, "it follows")

    def drops(self, *networks: Network) -> None:
        """Wait until these are dropped and no other."""
        wait_until(lambda: self.firewall.bans().keys() == set(networks), f"drops {len(networks)} networks")

    def is_at(self, rev: int) -> None:
        """Wait until it has this revision of the ledger, which it says after the firewall has the bans."""
        wait_until(lambda: self.agent.applied[1] == rev, f"is at revision {rev}")


@pytest.fixture
def proxy(settings: Settings, client: redis.Redis) -> Iterator[Proxy]:
    firewall = DryRunFirewall()
    agent = Agent(firewall, Exemptions(settings))
    agent.arm()
    follower = Follower(settings, agent)
    proxy = Proxy(Ledger(Store(client)), firewall, agent, follower)
    yield proxy
    for each in {follower, proxy.follower}:  # a test may have put another in its place
        each.stop()
        if each.is_alive():
            each.join(PATIENCE_S)
            assert not each.is_alive()


def test_it_begins_with_what_the_ledger_holds(proxy: Proxy) -> None:
    proxy.ban(A)
    proxy.ban(FRIEND)
    proxy.start()
    proxy.drops(A)


def test_bans_and_unbans_arrive(proxy: Proxy) -> None:
    proxy.ledger.heartbeat("rx1")  # makes the epoch
    proxy.start()
    for network in (A, FRIEND, B):
        proxy.ban(network)
    proxy.drops(A, B)
    proxy.ledger.unban(A, "", "")
    proxy.drops(B)
    assert proxy.agent.tally["exempt"] == 1
    assert (proxy.agent.tally["events"], proxy.agent.tally["gaps"]) == (4, 0)


@pytest.mark.row(9)
def test_a_connection_killed_in_a_burst_loses_nothing(proxy: Proxy, client: redis.Redis) -> None:
    proxy.start()
    networks = [Network(f"10.0.0.{i}") for i in range(200)]
    for i, network in enumerate(networks):
        proxy.ban(network)
        if i % 60 == 30:
            client.client_kill_filter(_type="pubsub")
    for network in networks[:50]:
        proxy.ledger.unban(network, "", "")
    proxy.drops(*networks[50:])
    proxy.is_at(250)


def test_after_a_lost_connection_a_snapshot_is_read_though_nothing_more_happens(
    proxy: Proxy, client: redis.Redis, deaf_to_silence: None
) -> None:
    proxy.start()
    before = proxy.agent.tally["resyncs"]
    client.client_kill_filter(_type="pubsub")
    wait_until(lambda: proxy.agent.tally["resyncs"] > before, "it reads a snapshot")


def test_a_connection_that_the_client_made_again_by_itself_is_not_believed(
    proxy: Proxy, client: redis.Redis, deaf_to_silence: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ours does not, its retries being off; with them on, events vanish without an error."""
    monkeypatch.setattr("shared.store.connection.Retry", lambda backoff, _: Retry(backoff, 3))
    proxy.start()
    before = proxy.agent.tally["resyncs"]
    client.client_kill_filter(_type="pubsub")
    wait_until(lambda: proxy.agent.tally["resyncs"] > before, "it reads a snapshot")


def test_a_lost_event_is_made_good_at_the_next_heartbeat(
    proxy: Proxy, client: redis.Redis, deaf_to_silence: None
) -> None:
    proxy.ban(B)
    proxy.start()
    client.zadd(KEYS.bans, {A: 2**53})
    client.incr(KEYS.rev)  # as if the event had never arrived
    proxy.ledger.heartbeat("rx1")
    wait_until(lambda: A in proxy.firewall.bans(), "it reads a snapshot")
    assert proxy.agent.tally["gaps"] == 1


@pytest.mark.row(2)
def test_a_deleted_ledger_ends_no_ban(proxy: Proxy, client: redis.Redis) -> None:
    proxy.start()
    proxy.ban(A)
    proxy.drops(A)
    client.flushall()
    proxy.ledger.heartbeat("rx1")
    wait_until(lambda: proxy.agent.applied == (text(client, KEYS.epoch), 0), "it knows")
    proxy.drops(A)
    proxy.ban(B)
    proxy.drops(A, B)
    proxy.ledger.unban(A, "", "")
    proxy.drops(B)


def test_a_killed_redis_ends_no_ban_and_is_followed_again(
    proxy: Proxy, server: RedisServer, settings: Settings
) -> None:
    proxy.start()
    proxy.ban(A)
    proxy.drops(A)
    server.kill()
    wait_until(lambda: "cannot be reached" in proxy.follower.trouble, "it says so")
    proxy.drops(A)
    server.start()
    server.await_ready()
    wait_until(lambda: not proxy.follower.trouble, "it follows again")
    with server.client() as client:
        proxy.ledger = Ledger(Store(client))
        proxy.ban(B)
        proxy.drops(A, B)


@pytest.mark.row(2)
def test_a_redis_that_comes_back_without_its_last_changes_ends_no_ban_though_their_revisions_are_used_again(
    proxy: Proxy, server: RedisServer, settings: Settings, tmp_path: Path
) -> None:
    """As a replica does that lagged, or a host that lost its power."""
    proxy.start()
    proxy.ban(A)
    server.stop()
    shutil.copytree(server.socket.parent / "appendonlydir", tmp_path / "older")
    server.start()
    server.await_ready()
    with server.client() as client:
        ledger = Ledger(Store(client))
        ledger.ban(NewBan(B, 600_000, "pin", "[]", "rx1"))
        proxy.drops(A, B)
        proxy.is_at(2)
        proxy.follower.stop()
        proxy.follower.join(PATIENCE_S)
        server.kill()
        shutil.rmtree(server.socket.parent / "appendonlydir")
        shutil.copytree(tmp_path / "older", server.socket.parent / "appendonlydir")
        server.start()
        server.await_ready()
        assert text(client, KEYS.rev) == "1"
        for last in range(3):  # 2, which was B's, 3, and 4
            ledger.ban(NewBan(Network(f"192.0.2.{last}"), 600_000, "pin", "[]", "rx1"))
        proxy.follower = Follower(settings, proxy.agent)
        proxy.start()
        proxy.drops(A, B, *(Network(f"192.0.2.{last}") for last in range(3)))
        ledger.unban(A, "", "")
        proxy.drops(B, *(Network(f"192.0.2.{last}") for last in range(3)))
        proxy.is_at(5)
        assert proxy.agent.applied[0] == text(client, KEYS.epoch)


@pytest.mark.row(27)
def test_garbage_on_the_channel_is_counted_and_the_next_ban_applied(proxy: Proxy, client: redis.Redis) -> None:
    proxy.start()
    chance = random.Random(20_261_122)
    for _ in range(10):
        pipeline = client.pipeline(transaction=False)
        for _ in range(1_000):
            pipeline.publish(KEYS.channel, chance.randbytes(chance.randrange(700)))
        pipeline.execute()
        proxy.ledger.heartbeat("rx1")  # as receivers do: garbage is no sign of life
    proxy.ban(A)
    proxy.drops(A)
    assert proxy.follower.is_alive()
    assert not proxy.follower.trouble
    assert proxy.agent.tally["bad_events"] == 10_000


def test_silence_is_not_believed_and_garbage_is_no_sign_of_life(
    proxy: Proxy, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.ban(A)
    proxy.start()

    def doubts() -> bool:
        client.publish(KEYS.channel, b"garbage")
        return "no heartbeat for 6 s; is a receiver running" in caplog.text  # in its trouble for a moment only

    wait_until(doubts, "it doubts")
    proxy.drops(A)
    wait_until(lambda: not proxy.follower.trouble, "it follows again")


@pytest.mark.parametrize("key", [KEYS.bans, KEYS.rev, KEYS.epoch])
def test_a_key_of_another_type_is_told_and_mended_by_its_removal(proxy: Proxy, client: redis.Redis, key: str) -> None:
    client.rpush(key, "x")
    proxy.follower.start()
    wait_until(lambda: "WRONGTYPE" in proxy.follower.trouble, "it says what is wrong")
    client.delete(key)
    wait_until(lambda: not proxy.follower.trouble, "it follows")
    proxy.ban(A)
    proxy.drops(A)


def test_a_member_that_is_no_network_is_left_out(
    proxy: Proxy, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.ban(A)
    client.zadd(KEYS.bans, {"garbage": 2**53, "0.0.0.0/0": 2**53})
    proxy.start()
    proxy.drops(A)
    assert "left out 1 bans that are no network" in caplog.text
