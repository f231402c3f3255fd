"""The counter thread: from the spool to counts and bans, through every absence of Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
import redis

from receiver.assembly import Parts
from receiver.counting import Counter
from receiver.failures import Failure, pack
from receiver.spool.slots import INTAKE, QUEUE_LENGTH, Slot, Spool
from receiver.store.counters import Counters
from shared.addresses import Network
from shared.ledger.allow import Entry
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Rule, Settings
from shared.store.store import Store
from tests.lab.process import PATIENCE_S, wait_until
from tests.lab.redis_server import RedisServer
from tests.parts import parts_of
from tests.redis.conftest import KEYS, history, members
from tests.redis.counting import with_rules

A, B = Network("203.0.113.7"), Network("203.0.113.8")


@pytest.fixture
def spool() -> Spool:
    return Spool(2)


@contextmanager
def counting(settings: Settings, spool: Spool) -> Iterator[Counter]:
    counter = parts_of(settings, spool).counter
    counter.adopt(spool.slots[0], own=True)
    counter.start()
    yield counter
    counter.finish(within_s=PATIENCE_S)
    assert not counter.is_alive()


def failures(first: int, number: int, network: Network = A, age_ms: int = 0) -> list[bytes]:
    received_ms = time.monotonic_ns() // 1_000_000 - age_ms
    return [pack(Failure(network, "pin", f"id{i}", "rp1", "meet", received_ms)) for i in range(first, first + number)]


def take_in(slot: Slot, records: list[bytes]) -> None:
    slot.commit({"received": len(records), "wrong_pin": len(records)}, records)


def settled(spool: Spool) -> bool:
    return spool.totals()["queued"] == 0


def balanced(spool: Spool) -> bool:
    """Every datagram has one outcome, and every failure too."""
    totals = spool.totals()
    return (
        totals["received"] == sum(totals[name] for name in INTAKE[2:])
        and totals["failures"] == sum(totals[name] for name in ("counted", "expired", "queue_dropped", "queued"))
    )  # fmt: skip


def test_failures_are_counted_and_the_limit_is_a_ban(settings: Settings, spool: Spool, client: redis.Redis) -> None:
    slot = spool.slots[0]
    with counting(settings, spool) as counter:
        take_in(slot, failures(0, 4))
        counter.more()
        wait_until(lambda: settled(spool), "four are counted")
        assert client.get(KEYS.count(A, "pin")) == b"4"
        assert client.zcard(KEYS.bans) == 0
        take_in(slot, failures(4, 1))
        counter.more()
        wait_until(lambda: settled(spool), "the fifth is counted")
    assert client.zrange(KEYS.bans, 0, -1) == [A.encode()]
    evidence = json.loads(client.hget(KEYS.ban(A), "evidence") or b"")
    assert [(each["id"], each["rp"], each["alias"]) for each in evidence] == [
        (f"id{i}", "rp1", "meet") for i in range(5)
    ]
    assert all(each["at"].isdecimal() for each in evidence)
    assert client.keys("pinban:count:*") == []  # a ban starts the counts from zero
    take_in(slot, failures(0, 5))  # the same ones, by way of another receiver
    with counting(settings, spool):
        wait_until(lambda: settled(spool), "the repeats are dealt with")
    assert client.keys("pinban:count:*") == []
    take_in(slot, failures(5, 1))
    with counting(settings, spool):
        wait_until(lambda: settled(spool), "a new one is counted")
    assert client.get(KEYS.count(A, "pin")) == b"1"
    totals = spool.totals()
    assert (totals["counted"], totals["bans"], balanced(spool)) == (11, 1, True)


def test_ten_at_once_are_one_ban(settings: Settings, spool: Spool, client: redis.Redis) -> None:
    take_in(spool.slots[0], failures(0, 10))
    with counting(settings, spool):
        wait_until(lambda: settled(spool), "all are counted")
    assert spool.totals()["bans"] == 1
    assert client.get(KEYS.rev) == b"1"


def test_who_is_banned_already_is_no_ban_more(
    settings: Settings, spool: Spool, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    assert Ledger(Store(client)).ban(NewBan(A, 600_000, "manual", "{}", "me")).new
    take_in(spool.slots[0], failures(0, 5))
    with counting(settings, spool):
        wait_until(lambda: settled(spool), "all are counted")
    assert (spool.totals()["bans"], client.get(KEYS.rev)) == (0, b"1")
    assert client.keys("pinban:count:*") == [], "it counts from zero all the same"
    assert "banned" not in caplog.text


def test_a_limit_reached_by_a_worker_that_died_is_made_good_by_the_next_failure(
    settings: Settings, spool: Spool, client: redis.Redis
) -> None:
    now_ms = time.monotonic_ns() // 1_000_000
    Counters(Store(client), settings).count([Failure(A, "pin", f"{i}", "rp1", "m", now_ms) for i in range(5)], now_ms)
    take_in(spool.slots[0], failures(5, 1))
    with counting(settings, spool):
        wait_until(lambda: settled(spool), "it is counted")
    assert client.zrange(KEYS.bans, 0, -1) == [A.encode()]


def test_failures_that_waited_too_long_expire(settings: Settings, spool: Spool, client: redis.Redis) -> None:
    slot = spool.slots[0]
    take_in(slot, [*failures(0, 3, age_ms=300_000), *failures(3, 2), *failures(5, 4, age_ms=10**6)])
    with counting(settings, spool):
        wait_until(lambda: settled(spool), "all are settled")
    totals = spool.totals()
    assert (totals["expired"], totals["counted"], balanced(spool)) == (7, 2, True)
    assert client.get(KEYS.count(A, "pin")) == b"2"


def test_a_failure_that_waited_counts_with_its_age(settings: Settings, spool: Spool, client: redis.Redis) -> None:
    take_in(spool.slots[0], failures(0, 1, age_ms=200_000))
    with counting(settings, spool):
        wait_until(lambda: settled(spool), "it is counted")
    assert 90_000 < client.pttl(KEYS.count(A, "pin")) <= 100_000


def test_failures_wait_for_a_redis_that_was_killed(settings: Settings, spool: Spool, server: RedisServer) -> None:
    slot = spool.slots[0]
    with counting(settings, spool) as counter:
        server.kill()
        for first in range(0, 4, 2):
            take_in(slot, failures(first, 2))
            counter.more()
        take_in(slot, failures(0, 7, B))
        counter.more()
        assert spool.totals()["queued"] == 11
        server.start()
        server.await_ready()
        wait_until(lambda: settled(spool), "all are counted")
    with server.client() as client:
        assert client.get(KEYS.count(A, "pin")) == b"4"
        assert client.zrange(KEYS.bans, 0, -1) == [B.encode()]
    assert (spool.totals()["counted"], balanced(spool)) == (11, True)


@pytest.fixture
def refusing(client: redis.Redis) -> Iterator[Callable[[], None]]:
    """A Redis that lets only four of these addresses be banned, until it is told to grant all again."""
    keys = ("~pinban:*", "~{pinban}:[^b]*", "~{pinban}:bans", "~{pinban}:ban:203.0.113.[1-4]")
    client.execute_command("ACL SETUSER", "default", "resetkeys", *keys)  # type: ignore[no-untyped-call]
    grant = partial(client.execute_command, "ACL SETUSER", "default", "~*")
    yield grant
    grant()


def test_the_bans_of_a_batch_in_which_redis_fails_are_told_each_once(
    settings: Settings,
    spool: Spool,
    client: redis.Redis,
    refusing: Callable[[], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    everyone = [Network(f"203.0.113.{n}") for n in range(1, 10)]
    slot = spool.slots[0]
    with counting(settings, spool):
        take_in(slot, [record for n, network in enumerate(everyone) for record in failures(10 * n, 5, network)])
        wait_until(lambda: "45 failures wait" in caplog.text, "Redis refuses the fifth ban")
        wait_until(lambda: spool.totals()["bans"] > 0, "the others are told")
        assert set(client.zrange(KEYS.bans, 0, -1)) == {network.encode() for network in everyone[:4]}
        assert (spool.totals()["bans"], spool.totals()["queued"]) == (4, 45)
        refusing()
        wait_until(lambda: settled(spool), "all are counted")
    assert client.zcard(KEYS.bans) == 9
    assert client.get(KEYS.rev) == b"9"
    totals = spool.totals()
    assert (totals["bans"], totals["counted"], balanced(spool)) == (9, 45, True)


def test_the_first_ban_needs_no_script_to_be_loaded(settings: Settings, spool: Spool, client: redis.Redis) -> None:
    client.script_flush()
    slot = spool.slots[0]
    with counting(settings, spool) as counter:
        hashes = [script.sha for script in counter._store._scripts]
        wait_until(lambda: all(client.script_exists(*hashes)), "the scripts are loaded")
        client.config_resetstat()
        take_in(slot, failures(0, 5))
        counter.more()
        wait_until(lambda: settled(spool), "all are counted")
        wait_until(lambda: client.exists(KEYS.room_failures("meet")) == 1, "the room is noted")
    assert client.zrange(KEYS.bans, 0, -1) == [A.encode()]
    stats: dict[str, Any] = client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] >= 3, "count, ban, reset"
    assert stats["cmdstat_evalsha"]["failed_calls"] == 0
    assert not {"cmdstat_script|load", "cmdstat_script"} & stats.keys()


@pytest.mark.row(3)
def test_failures_wait_for_a_redis_that_was_frozen_and_count_once(
    settings: Settings, spool: Spool, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    slot = spool.slots[0]
    with counting(settings, spool) as counter:
        take_in(slot, failures(0, 1))
        wait_until(lambda: settled(spool), "the first is counted")
        server.freeze()
        take_in(slot, failures(1, 3))
        counter.more()
        # What is sent to a frozen server is carried out when it thaws, beside the repeats.
        wait_until(lambda: "did not answer in time" in caplog.text, "the first try is over")
        assert spool.totals()["queued"] == 3
        server.thaw()
        wait_until(lambda: settled(spool), "all are counted")
    with server.client() as client:
        assert client.get(KEYS.count(A, "pin")) == b"4"
        assert client.zcard(KEYS.window(A, "pin")) == 4
        assert client.zcard(KEYS.bans) == 0
    assert balanced(spool)


@pytest.mark.row(4)
def test_the_queue_is_bounded_and_what_it_drops_is_counted(
    settings: Settings, spool: Spool, server: RedisServer
) -> None:
    slot = spool.slots[0]
    server.kill()
    take_in(slot, failures(0, QUEUE_LENGTH, age_ms=300_000))
    take_in(slot, failures(0, 100, B))
    totals = spool.totals()
    assert (totals["queued"], totals["queue_dropped"]) == (QUEUE_LENGTH, 100)
    with counting(settings, spool):  # not before: it makes room by what has expired, which needs no Redis
        server.start()
        server.await_ready()
        wait_until(lambda: settled(spool), "the rest is settled")
    totals = spool.totals()
    assert (totals["queue_dropped"], totals["counted"], totals["expired"]) == (100, 100, QUEUE_LENGTH - 100)
    assert balanced(spool)


@pytest.mark.row(7)
def test_a_script_flush_is_not_noticed(settings: Settings, spool: Spool, client: redis.Redis) -> None:
    slot = spool.slots[0]
    with counting(settings, spool) as counter:
        for first in range(5):
            client.script_flush()
            take_in(slot, failures(first, 1))
            counter.more()
            wait_until(lambda: settled(spool), "it is counted")
    assert client.zrange(KEYS.bans, 0, -1) == [A.encode()]


def test_a_slot_of_a_dead_worker_is_emptied_and_given_back(
    settings: Settings, spool: Spool, client: redis.Redis
) -> None:
    left = spool.slots[1]
    take_in(left, [*failures(0, 1_200, age_ms=300_000), *failures(2_000, 3)])  # more than one batch
    assert spool.claim(left)
    with counting(settings, spool) as counter:
        counter.adopt(left)
        wait_until(lambda: counter.claim(left), "it is given back")
        assert left.waiting == 0
    assert client.get(KEYS.count(A, "pin")) == b"3"
    assert balanced(spool)


def test_a_slot_of_a_dead_worker_is_emptied_beside_our_own_not_after_it(
    settings: Settings, spool: Spool, client: redis.Redis
) -> None:
    own, left = spool.slots
    take_in(own, [*failures(0, 5_000, age_ms=299_000), *failures(6_000, 5, B)])
    take_in(left, failures(7_000, 5, Network("203.0.113.9")))
    counter = parts_of(settings, spool).counter
    counter.adopt(own, own=True)
    counter.adopt(left)
    counter.start()
    wait_until(lambda: settled(spool), "all are counted")
    counter.finish(within_s=5)
    banned = [entry["network"] for entry in history(client) if entry["network"] != A]
    assert banned == ["203.0.113.9", B]


def test_an_address_that_was_allowed_since_its_first_failure_is_not_banned(
    settings: Settings, spool: Spool, client: redis.Redis
) -> None:
    """The intake learns of the allow-list once a second: the list is asked again before a ban."""
    slot = spool.slots[0]
    with counting(settings, spool) as counter:
        take_in(slot, failures(0, 4))
        counter.more()
        wait_until(lambda: settled(spool), "four are counted")
        client.hset(KEYS.allow, A, Entry(A, "the office", 0).encode())
        take_in(slot, [*failures(4, 1), *failures(0, 5, B)])
        counter.more()
        wait_until(lambda: settled(spool), "all are counted")
    assert client.zrange(KEYS.bans, 0, -1) == [B.encode()]
    assert spool.totals()["bans"] == 1


def test_what_cannot_be_counted_in_time_stays_for_another_worker(
    settings: Settings, spool: Spool, server: RedisServer
) -> None:
    server.kill()
    take_in(spool.slots[0], failures(0, 3))
    counter = parts_of(settings, spool).counter
    counter.adopt(spool.slots[0], own=True)
    counter.start()
    counter.finish(within_s=0.2)
    assert not counter.is_alive()
    assert spool.totals()["queued"] == 3


@pytest.mark.parametrize("held", ["a word", "a list"])
@pytest.mark.parametrize(
    "rule", [{}, {"bantime_increment": True}, {"simulate": True}], ids=["plain", "growing", "simulated"]
)
def test_strikes_that_are_no_number_keep_nobody_from_being_banned(
    settings: Settings, spool: Spool, client: redis.Redis, held: str, rule: dict[str, Any]
) -> None:
    if held == "a word":
        client.set(KEYS.strikes(A), "x")
    else:
        client.rpush(KEYS.strikes(A), "x")
    take_in(spool.slots[0], [*failures(0, 5), *failures(10, 5, B)])
    with counting(with_rules(settings, pin=rule), spool):
        wait_until(lambda: settled(spool), "all are counted")
    where = KEYS.simulated if "simulate" in rule else KEYS.bans
    assert set(client.zrange(where, 0, -1)) == {A.encode(), B.encode()}
    if "simulate" not in rule:
        assert client.get(KEYS.strikes(A)) == b"1"


def test_a_counter_key_of_another_type_is_told_and_replaced_and_hides_nobody(
    settings: Settings, spool: Spool, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.set(KEYS.window(A, "pin"), "x")
    take_in(spool.slots[0], [*failures(0, 1), *failures(0, 5, B)])
    with counting(settings, spool):
        wait_until(lambda: "WRONGTYPE" in caplog.text, "it is said")
        wait_until(lambda: settled(spool), "all are counted")
    assert client.get(KEYS.count(A, "pin")) == b"1"
    assert client.zrange(KEYS.bans, 0, -1) == [B.encode()]


@pytest.mark.parametrize(
    ("key", "banned"),
    [
        (KEYS.strikes(A), [A, B]),
        (KEYS.sender("rp1"), [A, B]),
        (KEYS.doubted, [A, B]),
        (KEYS.history, []),
        (KEYS.rev, []),
        (KEYS.epoch, []),
    ],
)
def test_an_overwritten_key_stops_no_counting_and_makes_no_ban_that_nobody_enforces(
    settings: Settings, spool: Spool, client: redis.Redis, key: str, banned: list[Network]
) -> None:
    client.hset(key, "x", "y") if key in (KEYS.rev, KEYS.history, KEYS.epoch) else client.set(key, "no number")
    parts = parts_of(msgspec.structs.replace(settings, rules=with_growing_bans(settings)), spool)
    parts.counter.adopt(spool.slots[0], own=True)
    parts.counter.start()
    take_in(spool.slots[0], [*failures(0, 5), *failures(5, 5, B), *failures(10, 1, Network("203.0.113.9"))])
    parts.counter.more()
    wait_until(lambda: settled(spool), "all are counted")
    assert sorted(name for name, _ in members(client, KEYS.bans)) == sorted(banned)
    assert client.get(KEYS.count(Network("203.0.113.9"), "pin")) == b"1"
    if not banned:
        assert "counting: " in told_by(parts), "maintenance tells it"
        client.delete(key)
        take_in(spool.slots[0], [*failures(20, 1), *failures(30, 1, B)])
        parts.counter.more()
        wait_until(lambda: client.zcard(KEYS.bans) == 2, "the next failure makes good")
        wait_until(lambda: "counting: " not in told_by(parts), "it is over")
    parts.counter.finish(within_s=PATIENCE_S)


def told_by(parts: Parts) -> str:
    return "; ".join(f"{name}: {text}" for name, text in parts.maintenance._troubles.items() if text)


def with_growing_bans(settings: Settings) -> dict[str, Rule]:
    return settings.rules | {"pin": msgspec.structs.replace(settings.rules["pin"], bantime_increment=True)}
