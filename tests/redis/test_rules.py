"""Rules at work: growing bans, strikes, the second window, simulation, forgiveness, on a real Redis."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator

import pytest
import redis

from pinban.deployment.operator import Operator
from receiver.failures import Failure
from shared.addresses import Network
from shared.events import Ban, decode
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.process import PATIENCE_S, wait_until
from tests.redis.conftest import KEYS, facts, history, text
from tests.redis.counting import Counting, counting, failure, failures, with_rooms, with_rules

A, B = Network("203.0.113.7"), Network("2001:db8:1:2::/64")

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000

#: How far Redis TIME may go on while we look, ms.
EDGE_MS = 5_000


def count(client: redis.Redis, rule: str = "pin", network: Network = A) -> int:
    return int(client.get(KEYS.count(network, rule)) or 0)


def ban_ms(client: redis.Redis, network: Network = A) -> int:
    """How long the standing ban was made for."""
    ban = facts(client, KEYS.ban(network))
    return int(ban["until"]) - int(ban["since"])


def end(client: redis.Redis, network: Network = A) -> None:
    """As if the ban's time were over; its strikes stay."""
    client.zadd(KEYS.bans, {network: 1})


def published(client: redis.Redis) -> Callable[[], list[bytes]]:
    """From now on, what the channel carries."""
    channel = client.pubsub()  # type: ignore[no-untyped-call]
    channel.subscribe(KEYS.channel)
    assert channel.get_message(timeout=PATIENCE_S)["type"] == "subscribe"

    def so_far() -> list[bytes]:
        client.publish(KEYS.channel, b"end")
        return list(iter(lambda: bytes(channel.get_message(timeout=PATIENCE_S)["data"]), b"end"))

    return so_far


def test_each_ban_of_an_address_is_twice_as_long_as_the_last(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rules(settings, pin={"bantime_increment": True, "bantime_maxtime": HOUR_MS})) as site:
        lengths = []
        for strikes in range(1, 6):
            site.take(failures(A, 5))
            lengths.append(ban_ms(client))
            assert facts(client, KEYS.ban(A))["strikes"] == str(strikes)
            end(client)
        site.take(failures(B, 5))
    assert lengths == [5 * MINUTE_MS, 10 * MINUTE_MS, 20 * MINUTE_MS, 40 * MINUTE_MS, HOUR_MS]
    assert ban_ms(client, B) == 5 * MINUTE_MS


def test_strikes_are_kept_for_strikes_kept_after_the_ban(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rules(settings, pin={"bantime": 2 * MINUTE_MS, "strikes_kept": HOUR_MS})) as site:
        site.take(failures(A, 5))
    assert HOUR_MS + 2 * MINUTE_MS - EDGE_MS < client.pttl(KEYS.strikes(A)) <= HOUR_MS + 2 * MINUTE_MS


def test_strikes_are_forgotten_after_that(settings: Settings, client: redis.Redis) -> None:
    ledger = Ledger(Store(client))
    assert ledger.ban(NewBan(A, 30, "pin", "[]", "rx1", strikes_kept_ms=50)).strikes == 1
    wait_until(lambda: ledger.strikes(A) == 0, "they are forgotten")
    with counting(with_rules(settings, pin={"bantime_increment": True})) as site:
        site.take(failures(A, 5))
    assert ban_ms(client) == 5 * MINUTE_MS


def test_jitter_makes_bans_differ_within_its_bounds(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rules(settings, pin={"bantime_jitter": MINUTE_MS})) as site:
        lengths = set()
        for n in range(8):
            network = Network(f"203.0.113.{n}")
            site.take(failures(network, 5))
            lengths.add(ban_ms(client, network))
    assert len(lengths) > 1
    assert all(5 * MINUTE_MS <= length <= 6 * MINUTE_MS for length in lengths)


def drip(site: Counting, ages_h: range) -> None:
    """A failure an hour, each so old that no two are in the short window."""
    for age_h in ages_h:
        site.take([failure(A, age_ms=age_h * HOUR_MS + HOUR_MS // 2)])


def test_a_slow_drip_is_never_a_ban_without_a_long_window(settings: Settings, client: redis.Redis) -> None:
    with counting(settings) as site:
        drip(site, range(22, -1, -1))
    assert client.zcard(KEYS.bans) == 0


def test_a_slow_drip_is_a_ban_by_the_long_window(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rules(settings, pin={"long_maxretry": 20, "long_findtime": DAY_MS})) as site:
        drip(site, range(40, 24, -1))  # a day ago and more
        drip(site, range(22, 3, -1))
        assert (client.zcard(KEYS.bans), count(client, "pin.long")) == (0, 19)
        drip(site, range(1))
    assert facts(client, KEYS.ban(A))["rule"] == "pin.long"
    assert len(json.loads(facts(client, KEYS.ban(A))["evidence"])) == 20
    assert client.keys("pinban:count:*") == []  # a ban by the long window starts all from zero


def test_the_long_window_survives_a_ban_by_the_short_one(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rules(settings, pin={"long_maxretry": 12})) as site:
        for total, rule in ((5, "pin"), (10, "pin")):
            site.take(failures(A, 5))
            assert facts(client, KEYS.ban(A))["rule"] == rule
            assert (count(client), count(client, "pin.long")) == (0, total)
            end(client)
        site.take(failures(A, 2))
    assert facts(client, KEYS.ban(A))["rule"] == "pin.long"


@pytest.fixture
def simulating(settings: Settings) -> Settings:
    return with_rules(settings, pin={"simulate": True, "maxretry": 2})


def test_what_is_simulated_bans_publishes_and_strikes_nobody(simulating: Settings, client: redis.Redis) -> None:
    heard = published(client)
    with counting(simulating) as site:
        site.take(failures(A, 2))
        assert site.bans() == 0
    assert heard() == []
    assert client.exists(KEYS.bans, KEYS.ban(A), KEYS.strikes(A), KEYS.rev) == 0
    [row] = Operator(simulating).bans()
    assert (row["network"], row["rule"], row["simulated"], len(row["evidence"])) == (A, "pin", True, 2)
    assert 5 * MINUTE_MS - EDGE_MS < row["left_ms"] <= 5 * MINUTE_MS
    [entry] = history(client)
    assert (entry["event"], entry["network"], entry["rule"]) == ("simulated", A, "pin")


def test_a_simulated_ban_is_told_once_in_its_time(simulating: Settings, client: redis.Redis) -> None:
    with counting(simulating) as site:
        for _ in range(4):
            site.take(failures(A, 2))
        assert len(history(client)) == 1
        client.zadd(KEYS.simulated, {A: 1})  # its time is over
        site.take(failures(A, 2))
    assert [entry["event"] for entry in history(client)] == ["simulated", "simulated"]


def test_a_simulated_ban_does_not_stand_in_the_way_of_one_that_is_meant(
    simulating: Settings, client: redis.Redis
) -> None:
    heard = published(client)
    with counting(simulating) as site:
        site.take(failures(A, 2))
        site.take(failures(A, 10, rule="scan"))
    assert facts(client, KEYS.ban(A))["rule"] == "scan"
    assert [type(decode(data)) for data in heard()] == [Ban]


def test_a_simulated_ban_forgets_nothing_of_the_other_rules(settings: Settings, client: redis.Redis) -> None:
    """Else sixty prompts, which cost nothing, would take four guesses back, again and again."""
    with counting(settings) as site:
        site.take(failures(A, 4))
        site.take(failures(A, 60, rule="prompt"))
        assert [entry["event"] for entry in history(client)] == ["simulated"]
        assert (count(client), count(client, "prompt")) == (4, 0)
        site.take(failures(A, 1))
    assert facts(client, KEYS.ban(A))["rule"] == "pin"


def joined(alias: str = "meet") -> Failure:
    return dataclasses.replace(failure(A, alias=alias), joined=True)


@pytest.fixture
def forgiving(settings: Settings) -> Iterator[Counting]:
    """It takes back two at most, and has a long window."""
    with counting(with_rooms(with_rules(settings, pin={"long_maxretry": 20}), forgive_on_join=2)) as site:
        yield site


def test_a_right_pin_takes_wrong_ones_of_its_room_back(forgiving: Counting, client: redis.Redis) -> None:
    forgiving.take(failures(A, 2))
    forgiving.take([joined()])
    assert client.keys("pinban:count:*") + client.keys("pinban:window:*") == []


def test_it_takes_back_so_many_at_most(forgiving: Counting, client: redis.Redis) -> None:
    forgiving.take(failures(A, 4))
    forgiving.take([joined()])
    assert (count(client), count(client, "pin.long")) == (2, 2)
    assert 0 < client.pttl(KEYS.count(A, "pin")) <= 5 * MINUTE_MS
    forgiving.take(failures(A, 2))
    assert client.zcard(KEYS.bans) == 0
    forgiving.take(failures(A, 1))
    assert client.zcard(KEYS.bans) == 1


def test_the_same_join_again_takes_back_no_more(forgiving: Counting, client: redis.Redis) -> None:
    """Redis may fail in the middle of a batch, which is then counted again whole."""
    some, join = failures(A, 4), joined()
    for _ in range(3):
        forgiving.take([*some, join])
        assert (count(client), count(client, "pin.long")) == (2, 2)
    forgiving.take([joined()])
    assert count(client) == 0
    assert 0 < client.pttl(KEYS.forgiven(A, "pin", join.id)) <= 5 * MINUTE_MS


def test_what_comes_again_by_way_of_another_receiver_is_taken_back_again(
    forgiving: Counting, client: redis.Redis
) -> None:
    some, join = failures(A, 2), joined()
    forgiving.take([*some, join])
    late = failure(A)
    forgiving.take([late, *some])
    forgiving.take([join])
    assert count(client) == 1, "the failure after the join"


def test_it_takes_nothing_back_of_other_rooms_and_other_addresses(forgiving: Counting, client: redis.Redis) -> None:
    forgiving.take([*failures(A, 3, alias="victim"), *failures(A, 1, alias="own"), *failures(B, 3, alias="own")])
    for alias in ("own", "own", "victi", "victim2", ""):
        forgiving.take([joined(alias=alias)])
    assert (count(client), count(client, network=B)) == (3, 3)
    forgiving.take([*failures(A, 2, alias="victim")])
    assert client.zscore(KEYS.bans, A) is not None


def test_it_does_not_lift_a_ban(forgiving: Counting, client: redis.Redis) -> None:
    forgiving.take(failures(A, 5))
    forgiving.take([joined()])
    assert client.zscore(KEYS.bans, A) is not None


def test_nothing_is_taken_back_by_default(settings: Settings, client: redis.Redis) -> None:
    assert settings.rooms.forgive_on_join == 0
    with counting(settings) as site:
        site.take(failures(A, 4))
        site.take([joined()])
    assert count(client) == 4


def test_a_ban_reaches_the_channel_with_the_length_it_was_given(settings: Settings, client: redis.Redis) -> None:
    heard = published(client)
    with counting(with_rules(settings, pin={"bantime_increment": True})) as site:
        site.take(failures(A, 5))
        end(client)
        site.take(failures(A, 5))
    bans = [decode(data) for data in heard()]
    assert [ban.ttl_ms for ban in bans if isinstance(ban, Ban)] == [5 * MINUTE_MS, 10 * MINUTE_MS]
    assert text(client, KEYS.rev) == "2"
