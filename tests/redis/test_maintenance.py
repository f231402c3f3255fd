"""The once-a-second thread on a real Redis: what fails is said once, stops no other chore, and is over when it is."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import redis

from receiver.assembly import Parts
from receiver.maintenance import Learn
from receiver.spool.slots import Spool
from shared.addresses import Network
from shared.ledger.allow import AllowList, Entry
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.process import lasts, wait_until
from tests.lab.redis_server import RedisServer
from tests.parts import parts_of
from tests.redis.conftest import KEYS, facts

A = Network("203.0.113.7")


@dataclass
class Learned:
    """What the thread tells, round by round."""

    allowed: AllowList = field(default_factory=AllowList)
    hot: list[frozenset[str]] = field(default_factory=list)
    not_ready: list[str] = field(default_factory=list)  #: why, in the midst of each round


@pytest.fixture
def parts(settings: Settings, server: RedisServer) -> Iterator[Parts]:
    """Of a worker whose maintenance runs, and nothing else."""
    parts = parts_of(settings, Spool(1))
    yield parts
    parts.maintenance.stop()
    assert not parts.maintenance.is_alive()


@pytest.fixture
def learned(parts: Parts) -> Learned:
    """It is ready when the test begins."""
    learned = Learned()

    def allowed(found: AllowList) -> None:
        learned.allowed = found

    def hot(found: frozenset[str]) -> None:
        learned.not_ready.append(parts.maintenance.not_ready)
        learned.hot.append(found)

    parts.maintenance._learn = Learn(allowed, hot)
    assert "has not answered yet" in parts.maintenance.not_ready
    parts.maintenance.start()
    wait_until(lambda: not parts.maintenance.not_ready, "it is ready")
    return learned


def rounds(learned: Learned, number: int) -> None:
    """Return after so many more rounds."""
    until = len(learned.hot) + number
    wait_until(lambda: len(learned.hot) >= until, "it goes on")


def trouble(client: redis.Redis) -> str:
    """As the node's hash tells it."""
    return facts(client, KEYS.node("rx1"))["trouble"]


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_chore_that_fails_is_said_once_told_in_the_hash_and_is_no_reason_not_to_count(
    parts: Parts, learned: Learned, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.set(KEYS.allow, "x")
    wait_until(lambda: "allow-list: " in trouble(client), "it is told")
    assert "has another type than pinban writes" in trouble(client)
    client.zadd(KEYS.hot, {"meet": Store(client).now_ms() + 60_000})
    rounds(learned, 3)
    assert learned.hot[-1] == {"meet"}, "other chores go on"
    assert len(errors(caplog)) == 1, errors(caplog)
    assert errors(caplog)[0].startswith("allow-list: ")
    assert set(learned.not_ready) == {""}, "it flaps nothing"
    client.delete(KEYS.allow)
    client.hset(KEYS.allow, A, Entry(A, "", 0).encode())
    wait_until(lambda: not trouble(client), "it is over")
    assert learned.allowed.overlaps(A, 0)
    client.delete(KEYS.allow)
    client.set(KEYS.allow, "x")
    wait_until(lambda: "allow-list: " in trouble(client), "it comes again")
    assert len(errors(caplog)) == 2, "what was over is said again"


def test_readiness_follows_redis_alone(
    parts: Parts, learned: Learned, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with server.client() as client:
        client.set(KEYS.allow, "x")
        wait_until(lambda: "allow-list: " in trouble(client), "a chore fails")
    assert (parts.maintenance.not_ready, len(errors(caplog))) == ("", 1)
    rounds(learned, 1)
    server.kill()  # between two rounds
    wait_until(lambda: "is it running" in parts.maintenance.not_ready, "Redis is missed")
    lasts(1.5, time.monotonic())  # some rounds
    assert "another type" in parts.maintenance._troubles["allow-list"], "Redis' absence is no trouble of each chore"
    server.start()
    server.await_ready()
    wait_until(lambda: not parts.maintenance.not_ready, "it is ready")
    rounds(learned, 2)
    assert learned.not_ready[-1] == ""
    away = [said for said in errors(caplog)[1:] if said.startswith("Redis at ")]
    assert len(away) == 1, "not one for each try"
    assert len(errors(caplog)) <= 3, "not one for each chore, but perhaps the one that noticed it first"
    assert caplog.text.count("Redis answers; 0 failures wait to be counted") == 1
