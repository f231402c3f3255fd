"""Rooms under distributed attack: when one is hot, what that changes, and that watching them costs little."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from pinban.deployment.operator import Operator
from receiver.failures import Failure, pack, unpack
from receiver.store.rooms import Rooms
from shared.addresses import Network
from shared.events import Hot, decode
from shared.ledger.changes import Ledger
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.process import PATIENCE_S, wait_until
from tests.redis.conftest import KEYS, facts, history, members
from tests.redis.counting import Counting, counting, failure, failures, with_rooms, with_rules

A, B = Network("203.0.113.7"), Network("203.0.113.8")

MINUTE_MS = 60_000


def crowd(number: int, *, alias: str = "meet", rule: str = "pin", age_ms: int = 0, first: int = 0) -> list[Failure]:
    """One failure of each of so many addresses, each in a /24 of its own."""
    return [
        failure(Network(f"198.{18 + (n >> 8)}.{n & 255}.7"), alias=alias, rule=rule, age_ms=age_ms)
        for n in range(first, first + number)
    ]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Limits of the tests' own, below the defaults."""
    return with_rooms(settings, failures=10, addresses=5)


@pytest.fixture
def site(settings: Settings) -> Iterator[Counting]:
    with counting(settings) as site:
        yield site


@pytest.fixture
def rooms(settings: Settings, client: redis.Redis) -> Rooms:
    return Rooms(Store(client), settings.rooms, Ledger(Store(client)), "rx1")


def note(rooms: Rooms, some: list[Failure]) -> None:
    rooms.note(some, time.monotonic_ns() // 1_000_000)


def hot(client: redis.Redis) -> set[str]:
    return {room for room, _ in members(client, KEYS.hot)}


def test_a_room_is_hot_at_ten_failures_from_five_addresses(rooms: Rooms, client: redis.Redis) -> None:
    note(rooms, [*crowd(4), *crowd(5)])
    assert hot(client) == set()
    note(rooms, crowd(1, first=3))
    assert hot(client) == rooms.hot == {"meet"}


@pytest.mark.parametrize("some", [crowd(4) * 5, failures(A, 40), crowd(9), crowd(20, alias="")])
def test_few_networks_few_failures_or_no_room_are_no_attack(
    rooms: Rooms, client: redis.Redis, some: list[Failure]
) -> None:
    note(rooms, some)
    assert hot(client) == set()


@pytest.mark.parametrize("site", ["2001:db8:1:{:x}::/64", "203.0.113.{}"])
def test_who_has_one_network_heats_nothing_from_all_its_addresses(rooms: Rooms, client: redis.Redis, site: str) -> None:
    note(rooms, [failure(Network(site.format(n % 11))) for n in range(20)])
    assert hot(client) == set()


def test_a_room_is_one_whether_its_domain_is_named_or_not(site: Counting, client: redis.Redis) -> None:
    """A node may take both for the same; else a guesser would have as many rooms as spellings."""
    spellings = ["meet", "meet@example.org", "meet@example.net"]
    site.take([each for n in range(12) for each in crowd(1, first=n, alias=spellings[n % 3])])
    wait_until(lambda: site.look_at_rooms() == {"meet"}, "it is hot")
    site.take(failures(A, 2, alias=spellings[1]))
    assert client.zscore(KEYS.bans, A) is None
    site.take(failures(A, 1, alias=spellings[2]))
    assert facts(client, KEYS.ban(A))["rule"] == "pin.hot"


def test_a_failure_told_twice_heats_once(rooms: Rooms, client: redis.Redis) -> None:
    some = crowd(9)
    for _ in range(3):
        note(rooms, some)
    assert hot(client) == set()


def test_failures_before_the_window_heat_nothing(rooms: Rooms, client: redis.Redis) -> None:
    note(rooms, crowd(9, age_ms=11 * MINUTE_MS))
    note(rooms, crowd(9, first=9))
    assert hot(client) == set()
    note(rooms, crowd(1, first=18, age_ms=9 * MINUTE_MS))
    assert hot(client) == {"meet"}


def test_rooms_are_counted_apart(rooms: Rooms, client: redis.Redis) -> None:
    note(rooms, [*crowd(9, alias="one"), *crowd(9, alias="other"), *crowd(12, alias="third")])
    assert hot(client) == {"third"}


def test_only_wrong_pins_heat_a_room(rooms: Rooms, client: redis.Redis) -> None:
    note(rooms, [*crowd(50, rule="prompt"), *crowd(50, rule="scan"), *crowd(50, rule="registration")])
    assert hot(client) == set()
    assert client.zcard(KEYS.rooms) == 0


def test_with_failures_at_zero_no_room_is_watched(settings: Settings, client: redis.Redis) -> None:
    note(Rooms(Store(client), with_rooms(settings, failures=0).rooms, Ledger(Store(client)), "rx1"), crowd(50))
    assert client.keys("*") == []


def test_it_is_published_once_told_in_the_history_and_shown(
    settings: Settings, rooms: Rooms, client: redis.Redis
) -> None:
    with client.pubsub() as channel:  # type: ignore[no-untyped-call]
        channel.subscribe(KEYS.channel)
        assert channel.get_message(timeout=PATIENCE_S)["type"] == "subscribe"
        second = Rooms(Store(client), settings.rooms, Ledger(Store(client)), "rx1")  # of another receiver
        note(rooms, crowd(12))
        note(second, crowd(12))
        note(rooms, crowd(12))
        event = decode(channel.get_message(timeout=PATIENCE_S)["data"])
        assert channel.get_message(timeout=0.05) is None
    assert isinstance(event, Hot)
    assert (event.room, event.for_ms, event.stamp.rev) == ("meet", 10 * MINUTE_MS, 0)
    [entry] = history(client)
    assert (entry["event"], entry["room"], entry["failures"], entry["addresses"]) == ("hot", "meet", "10", "12")
    assert Operator(settings).status()["hot_rooms"] == ["meet"]
    assert client.zcard(KEYS.bans) == 0


@pytest.mark.parametrize("alias", ["m{e}et", "\N{PILE OF POO}" * 200, "a b\tc", "x" * 500])
def test_a_room_of_any_name_can_be_hot(settings: Settings, client: redis.Redis, alias: str) -> None:
    with client.pubsub() as channel, counting(settings) as site:  # type: ignore[no-untyped-call]
        channel.subscribe(KEYS.channel)
        assert channel.get_message(timeout=PATIENCE_S)["type"] == "subscribe"
        site.take(crowd(12, alias=alias))
        [kept] = {unpack(pack(each)).alias for each in crowd(1, alias=alias)}
        wait_until(lambda: kept in site.rooms.hot, "it is hot")
        event = decode(channel.get_message(timeout=PATIENCE_S)["data"])
        assert isinstance(event, Hot)
        assert event.room == kept
        site.take(failures(A, 3, alias=alias))
    assert facts(client, KEYS.ban(A))["rule"] == "pin.hot"


def heated(site: Counting, *, alias: str = "meet") -> None:
    site.take(crowd(12, alias=alias))
    wait_until(lambda: alias in site.look_at_rooms(), "it is hot")


def test_while_a_room_is_hot_three_wrong_pins_on_it_are_a_ban_and_two_are_not(
    site: Counting, client: redis.Redis
) -> None:
    heated(site)
    site.take(failures(A, 2))
    assert client.zscore(KEYS.bans, A) is None
    site.take(failures(A, 1))
    assert facts(client, KEYS.ban(A))["rule"] == "pin.hot"
    assert site.bans() == 1


def test_on_another_room_they_are_not(site: Counting, client: redis.Redis) -> None:
    heated(site)
    site.take([*failures(A, 2, alias="other"), *failures(A, 2)])
    assert client.zscore(KEYS.bans, A) is None
    site.take(failures(B, 4, alias="other"))
    assert client.zscore(KEYS.bans, B) is None
    site.take(failures(A, 1, alias="other"))
    assert facts(client, KEYS.ban(A))["rule"] == "pin"


def test_who_failed_before_it_was_hot_is_judged_at_the_next_failure(site: Counting, client: redis.Redis) -> None:
    site.take(failures(A, 2, age_ms=MINUTE_MS))
    heated(site)
    assert client.zcard(KEYS.bans) == 0  # a dozen addresses with one failure each
    site.take(failures(A, 1))
    assert client.zscore(KEYS.bans, A) is not None


def test_another_receiver_learns_of_it(site: Counting, settings: Settings, client: redis.Redis) -> None:
    heated(site)
    with counting(settings) as other:
        assert other.look_at_rooms() == {"meet"}
        other.take(failures(A, 3))
    assert client.zscore(KEYS.bans, A) is not None


def test_after_hot_for_it_is_hot_no_longer(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rooms(settings, hot_for=3_000)) as site:
        heated(site)
        client.delete(KEYS.room_failures("meet"))
        wait_until(lambda: not site.look_at_rooms(), "it is over")
        assert Operator(settings).status()["hot_rooms"] == []
        site.take(failures(A, 4))
    assert client.zcard(KEYS.bans) == 0


@pytest.mark.parametrize("simulate", [True, False])
def test_nobody_is_banned_early_for_prompts_in_a_hot_room(
    settings: Settings, client: redis.Redis, simulate: bool
) -> None:
    with counting(with_rules(settings, prompt={"simulate": simulate})) as site:
        heated(site)
        site.take(failures(A, 59, rule="prompt"))
        site.take([*failures(B, 2), *failures(B, 30, rule="prompt")])
    assert (client.zcard(KEYS.bans), client.zcard(KEYS.simulated)) == (0, 0)


def flood(number: int, *, name: str, times: int = 1) -> Iterator[list[Failure]]:
    """Wrong PINs on so many made-up rooms, all of one address, in batches as the counter makes them."""
    for start in range(0, number, 500):
        yield [failure(A, alias=f"{name}{n}") for n in range(start, min(start + 500, number)) for _ in range(times)]


def watched(settings: Settings, client: redis.Redis, most: int) -> Rooms:
    """A watch with the default limits, but of so many rooms."""
    limits = with_rooms(settings, failures=15, addresses=10, most=most).rooms
    return Rooms(Store(client), limits, Ledger(Store(client)), "rx1")


def test_a_watch_that_is_full_of_made_up_rooms_sees_an_attack_on_another(
    settings: Settings, client: redis.Redis
) -> None:
    rooms = watched(settings, client, 10_000)
    for batch in flood(10_000, name="made-up"):
        note(rooms, batch)
    assert client.zcard(KEYS.rooms) == 10_000
    note(rooms, crowd(20))
    assert hot(client) == {"meet"}


def test_a_room_that_grows_warm_stays_while_colder_ones_pour_in(settings: Settings, client: redis.Redis) -> None:
    """One wrong PIN at a time, as in a slow attack; between two of them more rooms than the watch holds, each new."""
    rooms = watched(settings, client, 200)
    for turn in range(15):
        note(rooms, crowd(2, first=2 * turn))
        if turn < 14:
            for batch in flood(300, name=f"flood{turn}-"):
                note(rooms, batch)
    assert hot(client) == {"meet"}


def test_the_coldest_rooms_make_room_and_leave_nothing_behind(settings: Settings, client: redis.Redis) -> None:
    rooms = watched(settings, client, 3)
    note(rooms, [*crowd(14, alias="warm"), *crowd(1, alias="cold")])
    note(rooms, crowd(2, alias="tepid"))
    note(rooms, crowd(1, alias="first"))
    note(rooms, crowd(1, alias="second"))
    assert {room for room, _ in members(client, KEYS.rooms)} == {"warm", "tepid", "second"}
    assert not client.exists(*(key for room in ("cold", "first") for key in room_keys(room)))
    assert client.zcard(KEYS.room_failures("warm")) == 14


def test_a_room_cools_down_with_time(settings: Settings, client: redis.Redis) -> None:
    """What was warm an hour ago must not keep out what is attacked now."""
    rooms = watched(settings, client, 1)
    note(rooms, crowd(14, alias="warm"))
    client.zincrby(KEYS.rooms, -10 * MINUTE_MS, "warm")
    note(rooms, crowd(1))
    assert [room for room, _ in members(client, KEYS.rooms)] == ["meet"]


def test_after_redis_clock_was_set_back_no_room_is_kept_for_ever(settings: Settings, client: redis.Redis) -> None:
    rooms = watched(settings, client, 1)
    client.zadd(KEYS.rooms, {"of the future": Store(client).now_ms() + 600 * MINUTE_MS})
    note(rooms, crowd(1))
    assert [room for room, _ in members(client, KEYS.rooms)] == ["meet"]


def room_keys(room: str) -> tuple[str, str]:
    return KEYS.room_failures(room), KEYS.room_addresses(room)


def test_addresses_of_a_room_are_forgotten_after_a_window_however_many_failures_come(
    rooms: Rooms, client: redis.Redis
) -> None:
    """Else the addresses of a room that always has some failures would add up for ever, until it is hot."""
    note(rooms, crowd(2))
    assert 0 < client.pttl(KEYS.room_addresses("meet")) <= 10 * MINUTE_MS
    assert client.pexpire(KEYS.room_addresses("meet"), MINUTE_MS)
    note(rooms, crowd(2, first=2))
    assert 0 < client.pttl(KEYS.room_addresses("meet")) <= MINUTE_MS


def test_rooms_that_cannot_be_watched_cost_no_memory_and_no_ban(
    settings: Settings, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.set(KEYS.rooms, "x")
    with counting(settings) as site:
        site.take(failures(A, 5))
        wait_until(lambda: "wrong PINs are missing from their rooms" in caplog.text, "it is said")
        counter = site.counter
    assert counter._unnoted == []
    assert client.zscore(KEYS.bans, A) is not None


def test_a_room_is_listed_for_a_window_after_its_last_failure_not_its_first(
    settings: Settings, client: redis.Redis
) -> None:
    for number in range(2):  # two receivers
        note(Rooms(Store(client), settings.rooms, Ledger(Store(client)), "rx1"), crowd(1, first=number))
        client.zincrby(KEYS.rooms, -9 * MINUTE_MS, "meet")
    assert [row["room"] for row in Operator(settings).rooms()] == ["meet"]


def test_rooms_are_listed_the_warmest_first_however_many_there_are(
    settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pinban.deployment.operator._MOST_ROOMS", 2)
    rooms = watched(settings, client, 1_000)
    note(rooms, [*crowd(14, alias="warm"), *crowd(2, alias="tepid")])
    for batch in flood(100, name="cold"):
        note(rooms, batch)
    assert [(row["room"], row["failures"]) for row in Operator(settings).rooms()] == [("warm", 14), ("tepid", 2)]


def test_a_room_whose_heat_is_over_can_be_hot_again(rooms: Rooms, client: redis.Redis) -> None:
    note(rooms, crowd(12))
    client.zadd(KEYS.hot, {"meet": Store(client).now_ms() - 1})
    rooms.hot = frozenset()  # as maintenance would learn
    note(rooms, crowd(1))
    assert dict(members(client, KEYS.hot))["meet"] > Store(client).now_ms() + 9 * MINUTE_MS
    assert [entry["event"] for entry in history(client)] == ["hot", "hot"]


def test_a_batch_costs_one_round_trip_and_another_when_rooms_are_dropped(
    settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips: list[int] = []
    sent = Store._pipeline

    def counted(store: Store, commands: Any, **how: bool) -> list[Any]:
        trips.append(len(commands))
        return sent(store, commands, **how)

    rooms = watched(settings, client, 50)
    note(rooms, crowd(20))
    monkeypatch.setattr(Store, "_pipeline", counted)
    note(rooms, [*crowd(3), *crowd(3, alias="other")])  # a room that is hot is not heated again
    assert trips == [3]
    note(rooms, [failure(A, alias=f"room{n}") for n in range(49)])
    assert trips == [3, 50, 1]


def test_rooms_are_noted_in_a_flood_too(settings: Settings, client: redis.Redis) -> None:
    """The counter notes rooms when nothing urgent is left, which in a flood is never."""
    many = [failure(Network(f"198.19.{n >> 8}.{n & 255}"), alias="") for n in range(5_000)]
    with counting(settings) as site:
        site.take([*crowd(12), *many, *failures(A, 5)])
    assert [entry["event"] for entry in history(client)] == ["hot", "ban"]


def test_of_many_hostile_aliases_only_so_many_are_watched(settings: Settings, client: redis.Redis) -> None:
    limited = with_rooms(settings, most=2_000)
    rooms = Rooms(Store(client), limited.rooms, Ledger(Store(client)), "rx1")
    note(rooms, crowd(1, alias="first"))
    before, peak = int(client.info("memory")["used_memory"]), 0
    for turn in range(200):
        note(rooms, [failure(A, alias=f"hostile{turn * 500 + n:058}") for n in range(500)])
        if turn % 20 == 0:
            assert client.zcard(KEYS.rooms) <= 2_000
            peak = max(peak, int(client.info("memory")["used_memory"]))
    assert client.zcard(KEYS.rooms) == 2_000
    assert len(list(client.scan_iter("pinban:room:*", count=10_000))) <= 2 * 2_000
    peak = max(peak, int(client.info("memory")["used_memory"]))
    assert (peak - before) / 2_000 < 1_500, "bytes a room"
    note(rooms, crowd(12, alias="late"))
    assert hot(client) == {"late"}
