"""Sizes that no setting explains: counted, bounded, told once a day by one of all workers, shown to operators."""

from __future__ import annotations

import json
import logging

import msgspec
import pytest
import redis

from receiver.spool.slots import Spool
from receiver.store.sizes import _KEPT_MS, _TELL_EVERY_MS, MOST_SIZES, Sizes, read_sizes, uncalibrated, unexplained
from shared.errors import StoreError
from shared.ledger.changes import Ledger
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.process import wait_until
from tests.lab.redis_server import RedisServer
from tests.parts import parts_of
from tests.redis.conftest import KEYS, Run, facts


@pytest.fixture
def sizes(client: redis.Redis) -> Sizes:
    return Sizes(Store(client))


def noted(sizes: Sizes, *each: int) -> Sizes:
    for size in each:
        sizes.note(size)
    sizes.flush()
    return sizes


def test_each_size_is_counted_over_all_workers(sizes: Sizes, client: redis.Redis) -> None:
    noted(sizes, 61, 61, 99)
    noted(Sizes(Store(client)), 61)
    assert read_sizes(Store(client)) == {61: 3, 99: 1}


def test_one_worker_tells_it_once_a_day(sizes: Sizes, client: redis.Redis, caplog: pytest.LogCaptureFixture) -> None:
    noted(sizes, 61, 61)
    noted(sizes, 99)
    noted(Sizes(Store(client)), 61)
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "61 bytes (2)" in said
    assert "pinban calibrate" in said
    assert 0 < int(client.pttl(KEYS.sizes_told)) <= _TELL_EVERY_MS
    client.delete(KEYS.sizes_told)  # a day later
    noted(sizes, 61)
    assert "61 bytes (4), 99 bytes (1)" in caplog.records[-1].getMessage()


def test_forged_sizes_fill_no_memory(sizes: Sizes, client: redis.Redis) -> None:
    for size in range(1_000):
        sizes.note(size)
    assert len(sizes._noted) <= MOST_SIZES + 1
    sizes.flush()
    noted(sizes, *range(1_000, 1_100))
    held = facts(client, KEYS.sizes)
    assert len(held) == MOST_SIZES + 1
    assert sum(map(int, held.values())) == 1_100
    assert len(read_sizes(Store(client))) == MOST_SIZES


def test_it_begins_anew_after_days_however_often_a_size_comes(sizes: Sizes, client: redis.Redis) -> None:
    noted(sizes, 61)
    assert 0 < int(client.pttl(KEYS.sizes)) <= _KEPT_MS
    client.pexpire(KEYS.sizes, 60_000)
    noted(sizes, 61)
    assert int(client.pttl(KEYS.sizes)) <= 60_000


def test_while_redis_is_away_they_wait(sizes: Sizes, server: RedisServer) -> None:
    server.kill()
    with pytest.raises(StoreError):
        noted(sizes, 61, 62)
    with pytest.raises(StoreError):
        noted(sizes, 61)
    server.start()
    server.await_ready()
    with server.client() as client:
        sizes.flush()
        assert read_sizes(Store(client)) == {61: 2, 62: 1}


def test_what_others_wrote_there_is_no_size(sizes: Sizes, client: redis.Redis) -> None:
    client.hset(KEYS.sizes, mapping={"x": "1", "9" * 5_000: "1", "61": "y", "²": "1"})
    assert read_sizes(Store(client)) == {61: 0}
    noted(sizes, 61)
    assert read_sizes(Store(client)) == {61: 1}


def test_what_the_settings_explain_by_now_is_not_told() -> None:
    settings = msgspec.structs.replace(Settings().receiver, prompt_bytes=(62,), refused_otherwise_bytes=(63,))
    assert unexplained({45: 1, 61: 2, 62: 3, 63: 4, 9_999: 5}, settings) == {61: 2}


def test_an_operator_sees_a_note_and_no_problem(run: Run, sizes: Sizes, ledger: Ledger) -> None:
    noted(sizes, 61)
    report = json.loads(run("status", "--json").output)
    assert uncalibrated({61: 1}) in report["notes"]
    assert not any("calibrate" in problem for problem in report["problems"])


def test_a_worker_writes_what_its_sorter_noted(settings: Settings, client: redis.Redis) -> None:
    parts = parts_of(settings, Spool(1))
    parts.sorter._note_size(61)
    parts.maintenance.start()
    wait_until(lambda: read_sizes(Store(client)) == {61: 1}, "it is in Redis")
    parts.maintenance.stop()
