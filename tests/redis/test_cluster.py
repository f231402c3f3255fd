"""Redis Cluster: counters on every node, the ledger on one, and slots that are elsewhere than they were."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from enforcer import snapshot as reading
from enforcer.agent import Agent
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.follower import Follower
from enforcer.snapshot import read_snapshot
from pinban.deployment.operator import Operator
from receiver.failures import Failure
from receiver.store.counters import Counters
from receiver.store.rooms import Rooms
from shared.addresses import Network
from shared.errors import StoreError
from shared.exempt.exemptions import Exemptions
from shared.ledger.changes import Ledger, NewBan
from shared.nodes import NodeWriter, read_nodes
from shared.settings.schema import Redis, Settings
from shared.store.connection import HASTY_S, PATIENT_S, connect
from shared.store.keys import Keys
from shared.store.store import Store
from tests.lab.cluster import Cluster, cluster
from tests.lab.loopback import addresses
from tests.lab.process import PATIENCE_S, wait_until
from tests.lab.redis_server import RedisServer
from tests.redis.counting import failure, failures

KEYS = Keys()

NETWORKS = [Network(f"203.0.113.{n}") for n in range(1, 61)]

A, B = NETWORKS[:2]

#: How often a command is sent at most while its slot moves.
TURNS = 6


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("cluster"), node_timeout_ms=20_000) as site:
        yield site


@pytest.fixture
def settings(site: Cluster) -> Settings:
    for host in site.servers:
        site.ask(host, "FLUSHALL")
    return to(site.url)


@pytest.fixture
def client(settings: Settings) -> Iterator[redis.Redis]:
    with connect(settings, "test", PATIENT_S).client as client:
        yield client


def to(url: str) -> Settings:
    return msgspec.structs.replace(Settings(), redis=Redis(url=url), ignoreself=False)


def count(settings: Settings, client: redis.Redis, some: list[Failure]) -> dict[Network, int]:
    counted = Counters(Store(client), settings).count(some, time.monotonic_ns() // 1_000_000)
    return {each.network: each.count for each in counted}


def slot_of(site: Cluster, network: Network) -> int:
    return site.slot(KEYS.window(network, "pin"))


def test_counters_lie_on_every_node_and_are_counted_in_one_go(
    site: Cluster, settings: Settings, client: redis.Redis
) -> None:
    some = [failure(network) for network in NETWORKS for _ in range(3)]
    assert count(settings, client, some) == dict.fromkeys(NETWORKS, 3)
    assert count(settings, client, some) == dict.fromkeys(NETWORKS, 3), "nothing counts twice"
    sizes = [site.ask(host, "DBSIZE") for host in site.servers]
    assert sum(sizes) == 2 * len(NETWORKS)
    assert min(sizes) > 10
    assert len(Operator(settings).counters()) == len(NETWORKS)


def test_scripts_that_a_node_has_forgotten_are_loaded_again(
    site: Cluster, settings: Settings, client: redis.Redis
) -> None:
    store = Store(client)
    counts, ledger = Counters(store, settings), Ledger(store)
    store.prepare()
    for host in site.servers:
        site.ask(host, "SCRIPT", "FLUSH")
    assert count(settings, client, [failure(network) for network in NETWORKS]) == dict.fromkeys(NETWORKS, 1)
    for host in site.servers:
        site.ask(host, "SCRIPT", "FLUSH")
    assert ledger.ban(NewBan(A, 600_000, "pin", "[]", "rx1")).new
    counts.reset(A, ["pin"], long=False)


def test_the_ledger_is_one_and_an_operator_sees_all_of_it(settings: Settings, client: redis.Redis) -> None:
    operator = Operator(settings)
    for network in (A, B):
        operator.ban(network, 600_000, "test")
    assert operator.unban(B, "")["was_banned"]
    assert [row["network"] for row in operator.bans()] == [A]
    operator.allow("198.51.100.0/24", None, "")
    assert [row["network"] for row in operator.allowed()] == ["198.51.100.0/24"]
    assert NodeWriter(Store(client), "rp1", "i").write({"kind": "enforcer"})
    assert [node.name for node in read_nodes(Store(client))] == ["rp1"]
    snapshot = read_snapshot(Store(client))
    assert (set(dict(snapshot.bans)), snapshot.stamp.rev) == ({A}, 4)
    assert operator.status()["ledger"]["rev"] == 4


def test_rooms_are_watched(settings: Settings, client: redis.Redis) -> None:
    ledger = Ledger(Store(client))
    rooms = Rooms(Store(client), settings.rooms, ledger, "rx1")
    limits = settings.rooms
    crowd = [Network(f"10.0.{n // 200}.{n % 200 + 1}") for n in range(max(limits.failures, limits.addresses) + 1)]
    rooms.note([failure(network, alias="meet") for network in crowd], time.monotonic_ns() // 1_000_000)
    rooms.note([failure(A, alias=f"quiet{n}") for n in range(20)], time.monotonic_ns() // 1_000_000)
    assert ledger.hot_rooms() == {"meet"}


def test_a_slot_that_has_moved_is_found(site: Cluster, settings: Settings, client: redis.Redis) -> None:
    count(settings, client, failures(A, 2))
    slot = slot_of(site, A)
    site.move(slot, site.another(slot))
    assert count(settings, client, [*failures(A, 2), *failures(B, 1)]) == {A: 4, B: 1}


def test_a_transaction_finds_the_ledger_where_it_has_moved(
    site: Cluster, settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    Ledger(Store(client)).ban(NewBan(A, 600_000, "pin", "[]", "rx1"))
    Ledger(Store(client)).ban(NewBan(B, 500_000, "pin", "[]", "rx1"))
    slot = site.slot(KEYS.rev)
    site.move(slot, site.another(slot))
    assert set(dict(read_snapshot(Store(client)).bans)) == {A, B}
    monkeypatch.setattr(reading, "PAGE", 1)
    assert set(dict(read_snapshot(Store(client)).bans)) == {A, B}, "in pages too"


def test_keys_of_a_slot_under_way_are_found_where_they_are(
    site: Cluster, settings: Settings, client: redis.Redis
) -> None:
    count(settings, client, failures(A, 2))
    slot = slot_of(site, A)
    target = site.another(slot)
    source = site.begin_to_move(slot, target)
    assert count(settings, client, failures(A, 1)) == {A: 3}, "they are all here still"
    names = [KEYS.count(A, "pin"), KEYS.window(A, "pin")]
    site.ask(source, "MIGRATE", target, "6379", "", "0", "5000", "KEYS", *names)
    assert count(settings, client, failures(A, 1)) == {A: 4}, "they are all there"
    site.finish_to_move(slot, source, target)
    assert count(settings, client, failures(A, 1)) == {A: 5}


def test_an_address_that_is_half_moved_waits_briefly_and_then_counts_once(
    site: Cluster, settings: Settings, client: redis.Redis
) -> None:
    count(settings, client, failures(A, 2))
    slot = slot_of(site, A)
    target = site.another(slot)
    source = site.begin_to_move(slot, target)
    site.ask(source, "MIGRATE", target, "6379", KEYS.count(A, "pin"), "0", "5000")
    some = [*failures(A, 1), *failures(B, 1)]
    before = asked(site, source, "evalsha") + asked(site, target, "evalsha")
    with pytest.raises(StoreError, match=r"is moving what we need to another node.*redis-cli --cluster fix"):
        count(settings, client, some)
    assert asked(site, source, "evalsha") + asked(site, target, "evalsha") - before <= 2 * TURNS, "it gives up"
    site.finish_to_move(slot, source, target)
    assert count(settings, client, some) == {A: 3, B: 1}


def test_a_ban_follows_its_ledger_to_another_node(site: Cluster, settings: Settings) -> None:
    firewall = DryRunFirewall()
    agent = Agent(firewall, Exemptions(settings))
    agent.arm()
    follower = Follower(settings, agent)
    with connect(settings, "test", PATIENT_S).client as client:
        ledger = Ledger(Store(client))
        ledger.ban(NewBan(A, 600_000, "pin", "[]", "rx1"))
        follower.start()
        wait_until(lambda: A in firewall.bans(), "it follows")
        slot = site.slot(KEYS.rev)
        site.move(slot, site.another(slot))
        ledger.ban(NewBan(B, 600_000, "pin", "[]", "rx1"))
        wait_until(lambda: firewall.bans().keys() == {A, B}, "it follows still")
        ledger.unban(A, "", "")
        wait_until(lambda: firewall.bans().keys() == {B}, "an unban arrives")
        assert not follower.trouble
    follower.stop()
    follower.join(PATIENCE_S)


def test_a_frozen_node_is_asked_for_the_slots_once_and_then_last(
    site: Cluster, settings: Settings, connected: list[str]
) -> None:
    """Whatever it is asked begins with a connection, as the one before was given up."""
    first, *others = site.servers
    frozen = site.servers[first]
    if site.holder(site.slot(KEYS.rev)) == first:
        site.move(site.slot(KEYS.rev), others[0])
    every = [failure(network) for network in NETWORKS]
    elsewhere = [each for each in every if site.holder(slot_of(site, each.network)) != first]
    with connect(settings, "test", timeout_s=1.0).client as client:
        frozen.freeze()
        try:
            assert count(settings, client, elsewhere), "the others serve theirs"
            assert connected.count(first) == 1, "for the slots, as it is the first of the settings"
            for turn in range(2, 4):
                with pytest.raises(StoreError, match="did not answer in time"):
                    count(settings, client, every)
                assert count(settings, client, elsewhere)
                assert connected.count(first) == turn, "for what it alone has; for the slots others are asked"
        finally:
            frozen.thaw()
        site.await_whole()
        assert count(settings, client, every)


def asked(site: Cluster, host: str, command: str) -> int:
    """How often a node was sent a command."""
    with site.servers[host].client() as client:
        told = client.info("commandstats").get(f"cmdstat_{command}", {})
    return int(told.get("calls", 0)) + int(told.get("rejected_calls", 0))


def test_what_is_no_cluster_and_what_is_not_there_are_told_in_one_line(tmp_path: Path) -> None:
    [host] = addresses(1)
    single = RedisServer(tmp_path, bind=host)
    single.start()
    single.await_ready()
    try:
        for port, why in ((1, f"Error 111 connecting to {host}:1"), (6379, "cluster support disabled")):
            settings = to(f"cluster://{host}:{port}")
            with (
                pytest.raises(StoreError) as caught,
                connect(settings, "test", HASTY_S) as store,
            ):
                store.now_ms()
            assert why in str(caught.value)
            assert "\n" not in str(caught.value)
    finally:
        single.stop()
