"""The ledger's three verbs: what each writes, publishes and leaves alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import msgspec
import pytest
import redis

from enforcer.snapshot import read_snapshot
from receiver.store.doubt import Doubt
from shared.addresses import Network
from shared.errors import StoreError
from shared.events import Ban, Event, Heartbeat, Stamp, Unban, decode, encode
from shared.ledger.changes import HEARTBEAT_MARK_MS, STRIKES_KEPT_MS, Ledger, NewBan
from shared.ledger.listing import banned, standing
from shared.settings.schema import Settings
from shared.store.connection import connect
from shared.store.store import Store
from tests.lab.process import PATIENCE_S, wait_until
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS, facts, history, members, text

A, B = Network("203.0.113.7"), Network("2001:db8:1:2::/64")

LONG_MS = 300_000


@pytest.fixture
def ledger(settings: Settings, client: redis.Redis) -> Ledger:
    return Ledger(Store(client))


class Channel:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._ends = 0  #: of which we know that they will come
        self._pubsub = client.pubsub()  # type: ignore[no-untyped-call]
        self._pubsub.subscribe(KEYS.channel)
        assert self._pubsub.get_message(timeout=PATIENCE_S)["type"] == "subscribe"

    def raw(self) -> bytes | None:
        """The next message, or None when there is none: what was published before we ask comes before this."""
        self._client.publish(KEYS.channel, b"end")
        data = self._take()
        if data == b"end":
            return None
        self._ends += 1
        return data

    def next(self) -> Event:
        data = self.raw()
        assert data is not None
        return decode(data)

    def _take(self) -> bytes:
        """What comes next, without the ends that were not waited for."""
        while (data := bytes(self._pubsub.get_message(timeout=PATIENCE_S)["data"])) == b"end" and self._ends:
            self._ends -= 1
        return data

    def close(self) -> None:
        self._pubsub.close()


@pytest.fixture
def channel(client: redis.Redis) -> Iterator[Channel]:
    channel = Channel(client)
    yield channel
    channel.close()


def ban(ledger: Ledger, network: Network = A, ms: int = LONG_MS, *, lengthen: bool = False) -> bool:
    return ledger.ban(NewBan(network, ms, "pin", "[]", "rx1"), lengthen=lengthen).new


def test_a_ban_is_written_everywhere_a_person_may_look(ledger: Ledger, client: redis.Redis) -> None:
    before = Store(client).now_ms()
    recorded = ledger.ban(NewBan(A, LONG_MS, "pin", '[{"id": "x"}]', "rx1"))
    after = Store(client).now_ms()
    assert (recorded.new, recorded.strikes) == (True, 1)
    assert before + LONG_MS <= recorded.until_ms <= after + LONG_MS
    assert client.zscore(KEYS.bans, A) == recorded.until_ms
    found = facts(client, KEYS.ban(A))
    assert before <= int(found.pop("since")) <= after
    assert found == {
        "rule": "pin", "until": str(recorded.until_ms), "strikes": "1", "evidence": '[{"id": "x"}]', "by": "rx1",
    }  # fmt: skip
    assert LONG_MS - 5_000 < client.pttl(KEYS.ban(A)) <= LONG_MS
    assert LONG_MS + STRIKES_KEPT_MS - 5_000 < client.pttl(KEYS.strikes(A)) <= LONG_MS + STRIKES_KEPT_MS
    assert (text(client, KEYS.rev), text(client, KEYS.strikes(A))) == ("1", "1")
    [entry] = history(client)
    assert entry == {
        "event": "ban", "network": A, "rule": "pin", "bantime": str(LONG_MS), "until": str(recorded.until_ms),
        "evidence": '[{"id": "x"}]', "by": "rx1",
    }  # fmt: skip


@pytest.mark.parametrize("network", [A, B, Network("203.0.113.0/24")])
@pytest.mark.parametrize("ms", [2_000, 300_000, 3_650 * 86_400_000])
def test_the_published_bytes_are_those_that_encode_writes(
    ledger: Ledger, client: redis.Redis, channel: Channel, network: Network, ms: int
) -> None:
    ledger.ban(NewBan(network, ms, "manual", "{}", "rx1"))
    epoch = text(client, KEYS.epoch)
    assert channel.raw() == encode(Ban(Stamp(epoch, 1), network, ms, "manual"))
    ledger.unban(network, "why", "who")
    assert channel.raw() == encode(Unban(Stamp(epoch, 2), network))
    ledger.heartbeat("rx1/1")
    data = channel.raw()
    assert data is not None
    heartbeat = decode(data)
    assert isinstance(heartbeat, Heartbeat)
    assert data == encode(heartbeat)
    assert heartbeat.stamp == Stamp(epoch, 2)
    assert abs(heartbeat.time_ms - Store(client).now_ms()) < 5_000


@pytest.mark.parametrize("rev", [126, 127, 128, 255, 256, 65_535, 2**31 - 1, 2**32 - 1, 2**32])
def test_revisions_of_every_size_are_published_as_encode_writes_them(
    ledger: Ledger, client: redis.Redis, channel: Channel, rev: int
) -> None:
    client.set(KEYS.rev, rev - 1)
    ban(ledger)
    assert channel.raw() == encode(Ban(Stamp(text(client, KEYS.epoch), rev), A, LONG_MS, "pin"))


def test_a_standing_ban_is_set_once(ledger: Ledger, client: redis.Redis, channel: Channel) -> None:
    first = ledger.ban(NewBan(A, LONG_MS, "pin", "[]", "rx1"))
    again = ledger.ban(NewBan(A, 2 * LONG_MS, "pin", "[1]", "rx2"))
    assert not again.new
    assert (again.until_ms, again.strikes) == (first.until_ms, 1)
    assert facts(client, KEYS.ban(A))["by"] == "rx1"
    assert text(client, KEYS.rev) == "1"
    assert client.xlen(KEYS.history) == 1
    assert isinstance(channel.next(), Ban)
    assert channel.raw() is None


def test_lengthening_never_shortens(ledger: Ledger, client: redis.Redis, channel: Channel) -> None:
    first = ledger.ban(NewBan(A, LONG_MS, "pin", "[]", "rx1"))
    shorter = ledger.ban(NewBan(A, LONG_MS // 2, "manual", "{}", "me"), lengthen=True)
    assert (shorter.new, shorter.until_ms) == (False, first.until_ms)
    longer = ledger.ban(NewBan(A, 2 * LONG_MS, "manual", "{}", "me"), lengthen=True)
    assert longer.new
    assert longer.until_ms >= first.until_ms + LONG_MS
    assert client.zscore(KEYS.bans, A) == longer.until_ms
    assert facts(client, KEYS.ban(A))["until"] == str(longer.until_ms)
    assert [channel.next().stamp.rev, channel.next().stamp.rev] == [1, 2]
    assert channel.raw() is None


def test_lengthening_a_ban_is_no_strike(ledger: Ledger, client: redis.Redis) -> None:
    ban(ledger)
    recorded = ledger.ban(NewBan(A, 2 * LONG_MS, "manual", "{}", "me"), lengthen=True)
    assert (recorded.new, recorded.strikes, text(client, KEYS.strikes(A))) == (True, 1, "1")
    assert facts(client, KEYS.ban(A))["strikes"] == "1"


@pytest.mark.parametrize("verb", ["ban", "simulated", "unban", "allow", "heat", "doubt", "trust"])
def test_the_history_is_capped_whatever_writes_it(
    ledger: Ledger, settings: Settings, client: redis.Redis, verb: str
) -> None:
    doubt = Doubt(Store(client), msgspec.structs.replace(settings.receiver, doubt_above=1))
    if verb == "trust":
        assert [bool(doubt.weigh(network, ["rp1"]).doubted) for network in (A, B)] == [False, True]
    with client.pipeline(transaction=False) as pipeline:
        for _ in range(10_400):
            pipeline.xadd(KEYS.history, {"event": "ban"})
        pipeline.execute()
    last = history(client)[-1]
    verbs: dict[str, Callable[[], object]] = {
        "ban": lambda: ban(ledger),
        "simulated": lambda: ledger.ban(NewBan(A, LONG_MS, "pin", "[]", "rx1", simulate=True)),
        "unban": lambda: ledger.unban(A, "", ""),
        "allow": lambda: ledger.allow(A, "{}", (), ""),
        "heat": lambda: ledger.heat("meet", 1_000, 1, 1, ""),
        "doubt": lambda: [doubt.weigh(network, ["rp1"]) for network in (A, B)],
        "trust": lambda: doubt.trust("rp1", ""),
    }
    verbs[verb]()
    assert history(client)[-1] != last, "it wrote"
    assert 10_000 <= client.xlen(KEYS.history) < 10_200, "whole nodes of the stream go, of 100 entries each"


def test_simulated_bans_that_are_over_go_with_the_next_one(ledger: Ledger, client: redis.Redis) -> None:
    """Heartbeats forget bans alone."""
    for network in (A, B):
        assert ledger.ban(NewBan(network, LONG_MS, "pin", "[]", "rx1", simulate=True)).new
        if network == A:
            client.zadd(KEYS.simulated, {A: Store(client).now_ms() - 1})
    assert [network for network, _ in members(client, KEYS.simulated)] == [B]


@pytest.mark.parametrize("simulated", [False, True])
def test_every_ban_is_listed_with_its_reason_however_many_there_are(client: redis.Redis, simulated: bool) -> None:
    store = Store(client)
    bans, ban_of = (KEYS.simulated, KEYS.simulation) if simulated else (KEYS.bans, KEYS.ban)
    networks = [Network(f"10.0.{n >> 8}.{n & 255}") for n in range(3_300)]
    now = store.now_ms()
    client.zadd(bans, {network: now + LONG_MS + n for n, network in enumerate(networks)})
    client.zadd(bans, {"garbage": now + LONG_MS, "192.0.2.1": now - 1})
    store.together([("HSET", ban_of(network), "rule", f"rule{n}") for n, network in enumerate(networks)])
    members = banned(store, simulated=simulated)
    assert members.networks == {network: now + LONG_MS + n for n, network in enumerate(networks)}
    assert members.unreadable == ("garbage",)
    listed = standing(store, simulated=simulated)
    assert [(each.network, each.rule) for each in reversed(listed)] == [
        (network, f"rule{n}") for n, network in enumerate(networks)
    ]
    assert {each.simulated for each in listed} == {simulated}


def test_a_ban_that_is_over_is_followed_by_a_new_one_with_another_strike(ledger: Ledger, client: redis.Redis) -> None:
    ban(ledger)
    client.zadd(KEYS.bans, {A: Store(client).now_ms() - 1})
    recorded = ledger.ban(NewBan(A, LONG_MS, "pin", "[]", "rx1"))
    assert (recorded.new, recorded.strikes) == (True, 2)


def test_every_change_is_one_revision_more(ledger: Ledger, client: redis.Redis, channel: Channel) -> None:
    ban(ledger, A)
    ban(ledger, A)
    ban(ledger, B)
    ledger.unban(A, "", "")
    ledger.unban(A, "", "")
    ban(ledger, A)
    revs = [channel.next().stamp.rev for _ in range(5)]
    assert revs == [1, 2, 3, 4, 5]
    assert channel.raw() is None
    assert text(client, KEYS.rev) == "5"


def test_an_unban_ends_the_ban_forgets_the_strikes_and_says_why(ledger: Ledger, client: redis.Redis) -> None:
    ban(ledger)
    assert ledger.unban(A, "a mistake", "me@here")
    assert client.zscore(KEYS.bans, A) is None
    assert client.exists(KEYS.ban(A), KEYS.strikes(A)) == 0
    [_, entry] = history(client)
    assert entry == {
        "event": "unban", "network": A, "why": "a mistake", "by": "me@here",
    }  # fmt: skip


def test_an_unban_of_nobody_is_published_too(ledger: Ledger, channel: Channel) -> None:
    assert not ledger.unban(A, "", "")
    assert channel.next() == Unban(Stamp(channel_epoch(ledger, channel), 1), A)


def channel_epoch(ledger: Ledger, channel: Channel) -> str:
    ledger.heartbeat("x")
    return channel.next().stamp.epoch


def test_a_ban_that_is_over_was_no_ban_to_an_unban(ledger: Ledger, client: redis.Redis) -> None:
    ban(ledger)
    client.zadd(KEYS.bans, {A: Store(client).now_ms() - 1})
    assert not ledger.unban(A, "", "")


def test_of_many_receivers_one_sends_the_heartbeat_of_each_period(
    settings: Settings, server: RedisServer, client: redis.Redis, channel: Channel
) -> None:
    clients = [server.client() for _ in range(3)]
    ledgers = [Ledger(Store(each)) for each in clients]
    assert [ledger.heartbeat(f"rx{i}") for i, ledger in enumerate(ledgers)] == [True, False, False]
    who, at = text(client, KEYS.heartbeat).split(" ")
    assert who == "rx0"
    wait_until(lambda: Store(client).now_ms() >= int(at) + HEARTBEAT_MARK_MS, "the mark is over")
    assert [ledger.heartbeat(f"rx{i}") for i, ledger in enumerate(ledgers)] == [True, False, False]
    assert channel.next().stamp == channel.next().stamp
    assert channel.raw() is None
    for each in clients:
        each.close()


def test_the_epoch_is_made_once(ledger: Ledger, client: redis.Redis) -> None:
    ledger.heartbeat("rx1")
    epoch = text(client, KEYS.epoch)
    assert len(epoch) == 16
    int(epoch, 16)
    client.delete(KEYS.heartbeat)
    ledger.heartbeat("rx1")
    ban(ledger)
    ledger.unban(A, "", "")
    assert text(client, KEYS.epoch) == epoch
    client.flushall()
    ban(ledger)
    assert text(client, KEYS.epoch) not in {"", epoch}


def test_every_verb_of_another_process_begins_a_new_epoch_and_keeps_the_revision(
    server: RedisServer, settings: Settings
) -> None:
    """It may lack the last changes of the one before: a replica that took over, a server that started again."""
    verbs: dict[str, Callable[[Ledger], object]] = {
        "ban": ban,
        "unban": lambda ledger: ledger.unban(A, "", ""),
        "heartbeat": lambda ledger: ledger.heartbeat("rx1"),
        "allow": lambda ledger: ledger.allow(B, "{}", (), ""),
        "heat": lambda ledger: ledger.heat("meet", 1_000, 1, 1, ""),
    }
    before, rev = "", 0
    for name, verb in verbs.items():
        with connect(settings, "test", 2.0).client as client:
            verb(Ledger(Store(client)))
            epoch = text(client, KEYS.epoch)
            assert len(epoch) == 16, name
            assert epoch != before, name
            assert int(text(client, KEYS.rev)) >= rev, name
            before, rev = epoch, int(text(client, KEYS.rev))
        server.restart()


def test_a_heartbeat_prunes_bans_that_are_over(ledger: Ledger, client: redis.Redis) -> None:
    ban(ledger, A)
    ban(ledger, B)
    client.zadd(KEYS.bans, {A: Store(client).now_ms() - 1})
    ledger.heartbeat("rx1")
    assert client.zrange(KEYS.bans, 0, -1) == [B.encode()]
    assert text(client, KEYS.rev) == "2"


def test_a_clock_that_was_set_back_takes_the_ends_of_the_bans_with_it(ledger: Ledger, client: redis.Redis) -> None:
    """As it is an hour after that hour was taken back: A was banned before, B in between."""
    hour_ms = 3_600_000
    ban(ledger, A)
    ban(ledger, B)
    now = Store(client).now_ms()
    client.zadd(KEYS.bans, {A: now + hour_ms + 300_000})
    client.set(KEYS.heartbeat, f"rx1/1 {now + hour_ms}")
    assert ledger.heartbeat("rx2/1")
    ends = dict(members(client, KEYS.bans))
    assert abs(ends[A] - now - 300_000) < 2_000
    assert abs(ends[B] - now - 300_000) < 1_000
    assert text(client, KEYS.rev) == "3", "every enforcer reads the ledger again"
    assert not ledger.heartbeat("rx1/1"), "the next one is not due yet"


def test_evidence_may_hold_anything_that_json_holds(ledger: Ledger, client: redis.Redis) -> None:
    evidence = json.dumps([{"alias": 'bär "quoted" \n \u0000', "id": "x"}])
    ledger.ban(NewBan(A, LONG_MS, "pin", evidence, "rx1"))
    assert facts(client, KEYS.ban(A))["evidence"] == evidence


def test_a_snapshot_is_the_ledger_without_what_is_over(ledger: Ledger, settings: Settings, client: redis.Redis) -> None:
    assert read_snapshot(Store(client)).stamp == Stamp("", 0)
    ban(ledger, A)
    ban(ledger, B, 600_000)
    client.zadd(KEYS.bans, {"198.51.100.1": Store(client).now_ms() - 1, "garbage": 2**60})
    client.zadd(KEYS.bans, {b"\xff\xfe": 2**60})
    snapshot = read_snapshot(Store(client))
    bans = dict(snapshot.bans)
    assert bans.keys() == {A, B}
    assert LONG_MS - 5_000 < bans[A] <= LONG_MS
    assert snapshot.stamp == Stamp(text(client, KEYS.epoch), 2)
    assert snapshot.unreadable == 2


@pytest.mark.parametrize(
    ("key", "said"), [(KEYS.bans, "WRONGTYPE"), (KEYS.rev, "not an integer"), (KEYS.history, "WRONGTYPE")]
)
def test_a_key_of_another_kind_is_a_store_error(ledger: Ledger, client: redis.Redis, key: str, said: str) -> None:
    client.set(key, "x")
    with pytest.raises(StoreError, match=said):
        ban(ledger)


@pytest.mark.parametrize("key", [KEYS.bans, KEYS.rev, KEYS.epoch])
def test_a_snapshot_of_a_broken_ledger_is_a_store_error(settings: Settings, client: redis.Redis, key: str) -> None:
    client.rpush(key, "x")
    with pytest.raises(StoreError, match="WRONGTYPE"):
        read_snapshot(Store(client))


def test_a_revision_that_is_no_number_names_the_key(settings: Settings, client: redis.Redis) -> None:
    client.set(KEYS.rev, "x")
    with pytest.raises(StoreError, match=r"\{pinban\}:rev holds b'x' instead of a number"):
        read_snapshot(Store(client))


def test_a_redis_that_is_gone_is_a_store_error_with_a_remedy(ledger: Ledger, server: RedisServer) -> None:
    server.kill()
    with pytest.raises(StoreError, match="is it running"):
        ban(ledger)
