"""Redis Cluster: counters on every node, the ledger on one, and slots that are elsewhere than they were."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from redis.crc import key_slot

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
from shared.settings.servers import Address, parse_servers
from shared.store.cluster import Cluster as ClusterClient
from shared.store.cluster import _Command
from shared.store.connection import HASTY_S, PATIENT_S, _options, connect
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
    site.ask(site.holder(slot_of(site, A)), "SCRIPT", "FLUSH")
    assert count(settings, client, [failure(network) for network in NETWORKS]) == dict.fromkeys(NETWORKS, 2), "by one"
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
    crowd = [Network(f"10.{n // 200}.{n % 200}.7") for n in range(max(limits.failures, limits.addresses) + 1)]
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


def asked(site: Cluster, host: str, command: str) -> int:
    """How often a node was sent a command."""
    with site.servers[host].client() as client:
        told = client.info("commandstats").get(f"cmdstat_{command}", {})
    return int(told.get("calls", 0)) + int(told.get("rejected_calls", 0))


class Asked(ClusterClient):
    """Remembers whom it asked for the map."""

    def __init__(self, settings: Settings, timeout_s: float) -> None:
        servers = parse_servers(settings.redis.url)
        assert servers is not None
        super().__init__(servers.hosts, KEYS.rev, _options(settings, "test", timeout_s))
        self.asked: list[str] = []

    def _deliver(self, address: Address, commands: Sequence[_Command], *, asking: bool) -> list[Any]:
        if commands[0][0] == ("CLUSTER SLOTS",):
            self.asked.append(address[0])
        return super()._deliver(address, commands, asking=asking)

    def forget_the_map(self) -> None:
        self._map = {}
        self.asked.clear()


def test_a_frozen_node_costs_one_timeout_and_is_asked_last(site: Cluster, settings: Settings) -> None:
    first, *others = site.servers
    frozen = site.servers[first]
    slots = [slot_of(site, network) for network in NETWORKS]
    elsewhere = [n for n, slot in zip(NETWORKS, slots, strict=True) if site.holder(slot) != first]
    if site.holder(site.slot(KEYS.rev)) == first:
        site.move(site.slot(KEYS.rev), others[0])
    with Asked(settings, timeout_s=1.0) as client:
        frozen.freeze()
        try:
            assert count(settings, client, [failure(network) for network in elsewhere])
            assert client.asked == [first, others[0]], "the first that it asks is frozen"
            client.forget_the_map()
            assert count(settings, client, [failure(network) for network in elsewhere])
            assert client.asked == [others[0]], "who answered is asked first"
            client.forget_the_map()
            with pytest.raises(StoreError, match="did not answer in time"):
                count(settings, client, [failure(network) for network in NETWORKS])
            assert client.asked == [others[0]], "its answer is the map: the commands went to the frozen one"
            client.asked.clear()
            assert count(settings, client, [failure(network) for network in elsewhere])
            assert client.asked == [others[0]], "not the one that failed"
        finally:
            frozen.thaw()
        site.await_whole()
        assert count(settings, client, [failure(network) for network in NETWORKS])


def test_a_node_that_failed_is_asked_after_those_that_did_not(site: Cluster, settings: Settings) -> None:
    holder = site.holder(slot_of(site, A))
    with Asked(settings, timeout_s=1.0) as client:
        client._ask = [(holder, 6379), *((host, 6379) for host in site.servers if host != holder)]
        assert count(settings, client, failures(A, 1)) == {A: 1}
        assert client.asked == [holder], "it served, and it is the one to ask"
        site.servers[holder].freeze()
        try:
            with pytest.raises(StoreError, match="did not answer in time"):
                count(settings, client, failures(A, 1))
            client.asked.clear()
            with pytest.raises(StoreError, match="did not answer in time"):
                count(settings, client, failures(A, 1))
            assert len(client.asked) == 1
            assert client.asked != [holder]
        finally:
            site.servers[holder].thaw()
        site.await_whole()


def test_a_node_that_left_the_cluster_is_forgotten(site: Cluster, settings: Settings, tmp_path: Path) -> None:
    slot = site.slot(KEYS.rev)
    stays = site.holder(slot)
    with connect(settings, "test", PATIENT_S).client as client, site.joined(tmp_path) as guest:
        assert isinstance(client, ClusterClient)
        store = Store(client)
        site.move(slot, guest)
        assert Ledger(store).ban(NewBan(A, 600_000, "pin", "[]", "rx1")).new
        store.prepare()  # asks every master
        assert (guest, 6379) in client._nodes
        assert (guest, 6379) in client._ask
        left = client._nodes[guest, 6379]
        assert left.connection_pool._available_connections[0].is_connected
        site.move(slot, stays)
        assert Ledger(store).unban(A, "", ""), "it is told where the slot is now"
        Ledger(store).hot_rooms()
        assert guest not in {host for host, _ in (*client._nodes, *client._ask, *client._map.values())}
        assert not left.connection_pool._available_connections[0].is_connected


def test_keys_that_one_script_needs_share_a_slot() -> None:
    """Else Redis Cluster refuses the script (CROSSSLOT), or not, as the names will have it."""
    keys = Keys("some-prefix")
    ledger = [getattr(keys, name) for name in dir(Keys) if isinstance(getattr(Keys, name), property)]
    ledger = [key for key in ledger if key != keys.channel]
    ledger += [key(A) for key in (keys.ban, keys.strikes, keys.simulation)] + [keys.sender("rp1"), keys.node("rp1")]
    assert len(ledger) > 15
    assert {key_slot(key.encode()) for key in ledger} == {key_slot(b"some-prefix")}, ledger
    for network in (A, Network("2001:db8:1:2::/64")):
        of_one = [keys.count(network, "pin"), keys.window(network, "pin.long"), keys.forgiven(network, "pin", "id")]
        assert {key_slot(key.encode()) for key in of_one} == {key_slot(network.encode())}
    assert {key_slot(key.encode()) for key in (keys.room_failures("meet"), keys.room_addresses("meet"))} == {
        key_slot(b"meet")
    }


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
