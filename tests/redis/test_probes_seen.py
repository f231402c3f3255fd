"""Beats on their way to Redis: merged exactly, whatever their order, and never more than there is room for."""

from __future__ import annotations

import json
import logging

import msgspec
import pytest
import redis

from receiver.probes.lost import WINDOW, Route
from receiver.probes.seen import Beats, Watch, read_routes
from receiver.spool.slots import Journal
from shared.errors import StoreError
from shared.nodes import KEPT_MS, NodeWriter
from shared.probe import Beat
from shared.settings.schema import Settings
from shared.store.connection import PATIENT_S, connect, now_ms
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS


@pytest.fixture
def beats(settings: Settings, client: redis.Redis) -> Beats:
    return Beats(settings, client)


def beat(number: int, *, rp: str = "rp1", instance: str = "0123abcd", asked_ms: int = 0) -> Beat:
    return Beat(rp, instance, number, asked_ms)


def take(beats: Beats, *some: Beat) -> None:
    for each in some:
        beats.note(each)
    beats.flush()


def only(settings: Settings, client: redis.Redis) -> Route:
    [route] = read_routes(settings, client)
    return route


def age(client: redis.Redis, ms: int) -> None:
    """Let all that is held be so much older."""
    for name, value in client.hgetall(KEYS.beats).items():
        route = json.loads(value)
        client.hset(KEYS.beats, name, json.dumps(route | {"seen": route["seen"] - ms}))


def test_beats_that_come_in_order_fill_the_window(settings: Settings, client: redis.Redis, beats: Beats) -> None:
    take(beats, *(beat(n, asked_ms=now_ms(client)) for n in range(1, 4)))
    route = only(settings, client)
    assert (route.rp, route.receiver, route.instance, route.last, route.window) == ("rp1", "rx1", "0123abcd", 3, "111")
    assert route.silent_ms < 5_000
    assert route.lag_ms is not None
    assert 0 <= route.lag_ms < 5_000
    take(beats, *(beat(n) for n in range(4, 100)))
    route = only(settings, client)
    assert (route.last, route.window, route.lag_ms) == (99, "1" * WINDOW, None)


def test_what_did_not_come_is_a_hole_and_what_comes_late_fills_it(
    settings: Settings, client: redis.Redis, beats: Beats
) -> None:
    take(beats, beat(1), beat(2), beat(5))
    assert only(settings, client).window == "11001"
    take(beats, beat(4))
    assert (only(settings, client).last, only(settings, client).window) == (5, "11011")
    take(beats, beat(3))
    assert only(settings, client).missing == 0


def test_a_beat_that_comes_again_hides_no_loss(settings: Settings, client: redis.Redis, beats: Beats) -> None:
    take(beats, beat(1), beat(3))
    take(beats, beat(1), beat(3), beat(3), beat(1))
    assert only(settings, client).window == "101"


def test_two_workers_see_a_part_each_and_together_all(settings: Settings, client: redis.Redis, beats: Beats) -> None:
    other = Beats(settings, client)
    take(beats, *(beat(n) for n in range(1, 40, 2)))
    take(other, *(beat(n) for n in range(2, 40, 2)))
    assert only(settings, client).window == "1" * 39


def test_two_receivers_are_two_routes(settings: Settings, client: redis.Redis, beats: Beats) -> None:
    second = msgspec.structs.replace(settings, receiver=msgspec.structs.replace(settings.receiver, node="rx2"))
    take(beats, beat(1), beat(2))
    take(Beats(second, client), beat(1))
    assert [(r.receiver, r.last) for r in read_routes(settings, client)] == [("rx1", 2), ("rx2", 1)]


def test_an_enforcer_that_starts_anew_has_lost_nothing(settings: Settings, client: redis.Redis, beats: Beats) -> None:
    take(beats, beat(70), beat(71))
    take(beats, beat(1, instance="ffffffff"), beat(2, instance="ffffffff"))
    route = only(settings, client)
    assert (route.instance, route.last, route.window) == ("ffffffff", 2, "11")


def test_a_receiver_that_comes_later_misses_nothing_of_before(
    settings: Settings, client: redis.Redis, beats: Beats
) -> None:
    take(beats, beat(40_000))
    assert only(settings, client).window == "1"


def test_a_leap_costs_no_memory(settings: Settings, client: redis.Redis, beats: Beats) -> None:
    take(beats, beat(1), beat(10**12 - 1))
    route = only(settings, client)
    assert (route.last, route.window) == (10**12 - 1, "0" * (WINDOW - 1) + "1")
    take(beats, beat(2))
    assert only(settings, client).window == route.window, "too old to matter"


def test_forged_names_fill_neither_the_worker_nor_redis(settings: Settings, client: redis.Redis, beats: Beats) -> None:
    take(beats, beat(1))
    for turn in range(6):
        take(beats, *(beat(n, rp=f"forged{turn}-{n}") for n in range(300)))
    take(beats, beat(2))
    routes = read_routes(settings, client)
    assert len(routes) == 1_024
    assert [r.last for r in routes if r.rp == "rp1"] == [2], "who was known stays known"
    age(client, KEPT_MS + 1_000)
    take(beats, beat(1, rp="rp2"))
    assert [r.rp for r in read_routes(settings, client)] == ["rp2"], "a day later there is room"


def test_while_redis_is_away_a_window_is_kept_and_told_later(
    settings: Settings, server: RedisServer, beats: Beats
) -> None:
    with connect(settings, "test", PATIENT_S) as client:
        hasty = Beats(settings, client)
        server.stop()
        for n in range(1, 1_001):
            hasty.note(beat(n))
            if n % 100 == 0:
                with pytest.raises(StoreError):
                    hasty.flush()
        assert sum(map(len, hasty._noted.values())) == WINDOW
        server.start()
        server.await_ready()
        hasty.flush()
        assert hasty._noted == {}
        route = only(settings, client)
        assert (route.last, route.window) == (1_000, "1" * WINDOW)


@pytest.mark.parametrize("garbage", ["", "[]", "nonsense", "7", '"text"'])
def test_what_somebody_else_wrote_there_is_replaced(
    garbage: str, settings: Settings, client: redis.Redis, beats: Beats
) -> None:
    client.hset(KEYS.beats, "rx1 rp1", garbage)
    assert read_routes(settings, client) == []
    take(beats, beat(1))
    assert only(settings, client).window == "1"


@pytest.fixture
def journal() -> Journal:
    """Of a receiver that has run for a while."""
    journal = Journal(1)
    journal.made_at -= 60
    return journal


def report(settings: Settings, client: redis.Redis, sent: int, trouble: str = "") -> None:
    NodeWriter(settings, client, "rx1", "rx").write({"kind": "receiver"})
    facts: dict[str, str | int] = {"kind": "enforcer", "beats_sent": sent, "beat_every_ms": 5_000}
    NodeWriter(settings, client, "rp1", "0123abcd").write(facts | {"beat_trouble": trouble})


@pytest.fixture
def watch(settings: Settings, client: redis.Redis, beats: Beats, journal: Journal) -> Watch:
    return Watch(settings, client, beats, journal)


def rounds(watch: Watch) -> None:
    """As if the time for another look had come."""
    watch._look_at = 0.0
    watch.round()


def test_an_alarm_is_told_once_and_so_is_its_end(
    settings: Settings, client: redis.Redis, beats: Beats, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    beats.note(beat(1))
    report(settings, client, 1)
    rounds(watch)
    assert caplog.messages == []
    report(settings, client, 7)
    rounds(watch)
    rounds(watch)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "rp1: no line of its nginx has come to rx1" in caplog.messages[0]
    beats.note(beat(8))
    report(settings, client, 8)
    rounds(watch)
    rounds(watch)
    assert caplog.messages[1:] == ["rp1: the lines of its nginx come again"]


def test_an_enforcer_that_dies_in_an_alarm_does_not_end_it(
    settings: Settings, client: redis.Redis, beats: Beats, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    beats.note(beat(1))
    report(settings, client, 9)
    rounds(watch)
    client.delete(KEYS.node("rp1"))
    rounds(watch)
    assert len(caplog.messages) == 1
    report(settings, client, 9)
    rounds(watch)
    assert len(caplog.messages) == 1, "still the same"


def test_an_alarm_about_another_receivers_route_is_left_to_that_one(
    settings: Settings, client: redis.Redis, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    second = msgspec.structs.replace(settings, receiver=msgspec.structs.replace(settings.receiver, node="rx2"))
    take(Beats(second, client), beat(1))
    NodeWriter(settings, client, "rx2", "rx").write({"kind": "receiver"})
    report(settings, client, 9)
    rounds(watch)
    assert caplog.messages == []


def test_a_receiver_that_just_started_waits_before_it_judges(
    settings: Settings, client: redis.Redis, beats: Beats, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    take(beats, beat(1))
    report(settings, client, 99)
    Watch(settings, client, beats, Journal(1)).round()
    assert caplog.messages == []
    older = Journal(1)
    older.made_at -= 13
    Watch(settings, client, beats, older).round()
    assert len(caplog.messages) == 1
