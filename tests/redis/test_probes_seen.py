"""Probes on their way to Redis: merged exactly, whatever their order, and never more than there is room for."""

from __future__ import annotations

import json
import logging

import msgspec
import pytest
import redis

from receiver.probes.lost import WINDOW, LogPath
from receiver.probes.seen import Probes, Watch, read_paths
from receiver.spool.slots import Spool
from shared.errors import StoreError
from shared.nodes import KEPT_MS, NodeWriter
from shared.probe import Probe
from shared.settings.schema import Settings
from shared.store.connection import PATIENT_S, connect
from shared.store.store import Store
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS


@pytest.fixture
def probes(settings: Settings, client: redis.Redis) -> Probes:
    return Probes(Store(client), settings.receiver.node)


def probe(number: int, *, rp: str = "rp1", instance: str = "0123abcd", asked_ms: int = 0) -> Probe:
    return Probe(rp, instance, number, asked_ms)


def take(probes: Probes, *some: Probe) -> None:
    for each in some:
        probes.note(each)
    probes.flush()


def only(settings: Settings, client: redis.Redis) -> LogPath:
    [path] = read_paths(Store(client))
    return path


def age(client: redis.Redis, ms: int) -> None:
    """Let all that is held be so much older."""
    for name, value in client.hgetall(KEYS.probes).items():
        path = json.loads(value)
        client.hset(KEYS.probes, name, json.dumps(path | {"seen": path["seen"] - ms}))


def test_probes_that_come_in_order_fill_the_window(settings: Settings, client: redis.Redis, probes: Probes) -> None:
    take(probes, *(probe(n, asked_ms=Store(client).now_ms()) for n in range(1, 4)))
    path = only(settings, client)
    assert (path.rp, path.receiver, path.instance, path.last, path.window) == ("rp1", "rx1", "0123abcd", 3, "111")
    assert path.silent_ms < 5_000
    assert path.lag_ms is not None
    assert 0 <= path.lag_ms < 5_000
    take(probes, *(probe(n) for n in range(4, 100)))
    path = only(settings, client)
    assert (path.last, path.window, path.lag_ms) == (99, "1" * WINDOW, None)


def test_what_did_not_come_is_a_hole_and_what_comes_late_fills_it(
    settings: Settings, client: redis.Redis, probes: Probes
) -> None:
    take(probes, probe(1), probe(2), probe(5))
    assert only(settings, client).window == "11001"
    take(probes, probe(4))
    assert (only(settings, client).last, only(settings, client).window) == (5, "11011")
    take(probes, probe(3))
    assert only(settings, client).missing == 0


def test_a_probe_that_comes_again_hides_no_loss(settings: Settings, client: redis.Redis, probes: Probes) -> None:
    take(probes, probe(1), probe(3))
    take(probes, probe(1), probe(3), probe(3), probe(1))
    assert only(settings, client).window == "101"


def test_two_workers_see_a_part_each_and_together_all(settings: Settings, client: redis.Redis, probes: Probes) -> None:
    other = Probes(Store(client), settings.receiver.node)
    take(probes, *(probe(n) for n in range(1, 40, 2)))
    take(other, *(probe(n) for n in range(2, 40, 2)))
    assert only(settings, client).window == "1" * 39


def test_two_receivers_are_two_paths(settings: Settings, client: redis.Redis, probes: Probes) -> None:
    second = msgspec.structs.replace(settings, receiver=msgspec.structs.replace(settings.receiver, node="rx2"))
    take(probes, probe(1), probe(2))
    take(Probes(Store(client), second.receiver.node), probe(1))
    assert [(r.receiver, r.last) for r in read_paths(Store(client))] == [("rx1", 2), ("rx2", 1)]


def test_an_enforcer_that_starts_anew_has_lost_nothing(settings: Settings, client: redis.Redis, probes: Probes) -> None:
    take(probes, probe(70), probe(71))
    take(probes, probe(1, instance="ffffffff"), probe(2, instance="ffffffff"))
    path = only(settings, client)
    assert (path.instance, path.last, path.window) == ("ffffffff", 2, "11")


def test_a_receiver_that_comes_later_misses_nothing_of_before(
    settings: Settings, client: redis.Redis, probes: Probes
) -> None:
    take(probes, probe(40_000))
    assert only(settings, client).window == "1"


def test_a_leap_costs_no_memory(settings: Settings, client: redis.Redis, probes: Probes) -> None:
    take(probes, probe(1), probe(10**12 - 1))
    path = only(settings, client)
    assert (path.last, path.window) == (10**12 - 1, "0" * (WINDOW - 1) + "1")
    take(probes, probe(2))
    assert only(settings, client).window == path.window, "too old to matter"


def test_forged_names_fill_neither_the_worker_nor_redis(
    settings: Settings, client: redis.Redis, probes: Probes
) -> None:
    take(probes, probe(1))
    for turn in range(6):
        take(probes, *(probe(n, rp=f"forged{turn}-{n}") for n in range(300)))
    take(probes, probe(2))
    paths = read_paths(Store(client))
    assert len(paths) == 1_024
    assert [r.last for r in paths if r.rp == "rp1"] == [2], "who was known stays known"
    age(client, KEPT_MS + 1_000)
    take(probes, probe(1, rp="rp2"))
    assert [r.rp for r in read_paths(Store(client))] == ["rp2"], "a day later there is room"


def test_while_redis_is_away_a_window_is_kept_and_told_later(
    settings: Settings, server: RedisServer, probes: Probes
) -> None:
    with connect(settings, "test", PATIENT_S).client as client:
        hasty = Probes(Store(client), settings.receiver.node)
        server.stop()
        for n in range(1, 1_001):
            hasty.note(probe(n))
            if n % 100 == 0:
                with pytest.raises(StoreError):
                    hasty.flush()
        assert sum(map(len, hasty._noted.values())) == WINDOW
        server.start()
        server.await_ready()
        hasty.flush()
        assert hasty._noted == {}
        path = only(settings, client)
        assert (path.last, path.window) == (1_000, "1" * WINDOW)


@pytest.mark.parametrize("garbage", ["", "[]", "nonsense", "7", '"text"'])
def test_what_somebody_else_wrote_there_is_replaced(
    garbage: str, settings: Settings, client: redis.Redis, probes: Probes
) -> None:
    client.hset(KEYS.probes, "rx1 rp1", garbage)
    assert read_paths(Store(client)) == []
    take(probes, probe(1))
    assert only(settings, client).window == "1"


@pytest.fixture
def spool() -> Spool:
    """Of a receiver that has run for a while."""
    spool = Spool(1)
    spool.made_at -= 60
    return spool


def report(settings: Settings, client: redis.Redis, sent: int, trouble: str = "") -> None:
    NodeWriter(Store(client), "rx1", "rx").write({"kind": "receiver"})
    facts: dict[str, str | int] = {"kind": "enforcer", "probes_sent": sent, "probe_every_ms": 5_000}
    NodeWriter(Store(client), "rp1", "0123abcd").write(facts | {"probe_trouble": trouble})


@pytest.fixture
def watch(settings: Settings, client: redis.Redis, probes: Probes, spool: Spool) -> Watch:
    return Watch(Store(client), settings.receiver.node, probes, spool)


def rounds(watch: Watch) -> None:
    """As if the time for another look had come."""
    watch._look_at = 0.0
    watch.round()


def test_an_alarm_is_told_once_and_so_is_its_end(
    settings: Settings, client: redis.Redis, probes: Probes, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    probes.note(probe(1))
    report(settings, client, 1)
    rounds(watch)
    assert caplog.messages == []
    report(settings, client, 7)
    rounds(watch)
    rounds(watch)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "rp1: no line of its nginx has come to rx1" in caplog.messages[0]
    probes.note(probe(8))
    report(settings, client, 8)
    rounds(watch)
    rounds(watch)
    assert caplog.messages[1:] == ["rp1: the lines of its nginx come again"]


@pytest.mark.parametrize(
    "odd", ["9" * 5_000, "\u00b2", "--1", ""], ids=["5,000 digits", "a superscript", "minus", "empty"]
)
def test_a_node_that_writes_odd_numbers_hides_no_other_nodes_alarm(
    settings: Settings, client: redis.Redis, probes: Probes, watch: Watch, caplog: pytest.LogCaptureFixture, odd: str
) -> None:
    caplog.set_level(logging.WARNING)
    probes.note(probe(1))
    report(settings, client, 7)
    NodeWriter(Store(client), "rp0", "x").write({"kind": "enforcer", "probes_sent": odd, "probe_every_ms": odd})
    client.hset(KEYS.probes, "rx1 rp0", "{")
    rounds(watch)
    assert [message.partition(":")[0] for message in caplog.messages] == ["rp1"]


def test_an_enforcer_that_dies_in_an_alarm_does_not_end_it(
    settings: Settings, client: redis.Redis, probes: Probes, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    probes.note(probe(1))
    report(settings, client, 9)
    rounds(watch)
    client.delete(KEYS.node("rp1"))
    rounds(watch)
    assert len(caplog.messages) == 1
    report(settings, client, 9)
    rounds(watch)
    assert len(caplog.messages) == 1, "still the same"


def test_an_alarm_about_another_receivers_log_path_is_left_to_that_one(
    settings: Settings, client: redis.Redis, watch: Watch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    second = msgspec.structs.replace(settings, receiver=msgspec.structs.replace(settings.receiver, node="rx2"))
    take(Probes(Store(client), second.receiver.node), probe(1))
    NodeWriter(Store(client), "rx2", "rx").write({"kind": "receiver"})
    report(settings, client, 9)
    rounds(watch)
    assert caplog.messages == []


def test_a_receiver_that_just_started_waits_before_it_judges(
    settings: Settings, client: redis.Redis, probes: Probes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    take(probes, probe(1))
    report(settings, client, 99)
    Watch(Store(client), settings.receiver.node, probes, Spool(1)).round()
    assert caplog.messages == []
    older = Spool(1)
    older.made_at -= 13
    Watch(Store(client), settings.receiver.node, probes, older).round()
    assert len(caplog.messages) == 1
