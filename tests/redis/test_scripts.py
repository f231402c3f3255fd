"""Scripts on a real Redis: many calls in one round trip, of which one that fails costs no other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import redis

from shared.errors import BadDataError, StoreError
from shared.settings.schema import Settings
from shared.store.connection import HASTY_S, connect
from shared.store.store import Script, Store, Word
from tests.lab.redis_server import RedisServer

#: Counts, so that a call that was carried out twice shows.
ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"

Calls = list[tuple[Sequence[str], Sequence[Word]]]


@pytest.fixture
def add(client: redis.Redis) -> Script:
    return Script(Store(client), ADD)


def calls(*names: str) -> Calls:
    return [([name], [1]) for name in names]


def test_replies_come_in_the_order_of_the_calls(add: Script) -> None:
    assert add.many(calls("a", "b", "a", "a")) == [1, 1, 2, 3]
    assert add(["b"], [5]) == 6


def test_a_key_of_another_type_fails_its_own_call_alone(add: Script, client: redis.Redis) -> None:
    client.rpush("list", "x")
    first, bad, last = add.many(calls("a", "list", "b"))
    assert (first, last) == (1, 1)
    assert isinstance(bad, BadDataError)
    assert "has another type than pinban writes" in str(bad)
    with pytest.raises(BadDataError, match="delete it"):
        add(["list"], [1])


def test_another_error_is_raised_when_all_calls_are_done(add: Script, client: redis.Redis) -> None:
    client.set("full", 2**63 - 1)
    with pytest.raises(StoreError, match="would overflow") as raised:
        add.many(calls("a", "full", "b"))
    assert not isinstance(raised.value, BadDataError)
    assert client.mget("a", "b") == [b"1", b"1"]


@pytest.mark.parametrize("bad", [(), ("list",)], ids=["all well", "beside one of another type"])
def test_a_script_that_redis_forgot_is_loaded_again_and_no_call_is_doubled(
    add: Script, client: redis.Redis, bad: tuple[str, ...]
) -> None:
    client.rpush("list", "x")
    assert add.many(calls("a")) == [1]
    client.script_flush()
    assert add.many(calls("a", *bad, "b"))[-1] == 1
    assert client.mget("a", "b") == [b"2", b"1"]
    client.config_resetstat()
    assert add.many(calls("a")) == [3]
    assert "cmdstat_script|load" not in client.info("commandstats"), "only when it was forgotten"


@pytest.mark.parametrize("away", ["killed", "frozen"])
def test_a_redis_that_is_away_is_an_error_and_no_reply(settings: Settings, server: RedisServer, away: str) -> None:
    with connect(settings, "test", HASTY_S) as store:
        add = Script(store, ADD)
        assert add.many(calls("a")) == [1]
        if away == "killed":
            server.kill()
        else:
            server.freeze()
        with pytest.raises(StoreError, match=r"is it running|did not answer in time") as raised:
            add.many(calls("a", "b"))
        assert not isinstance(raised.value, BadDataError)


def test_a_store_prepares_all_scripts_made_of_it(client: redis.Redis) -> None:
    store = Store(client)
    made = [store.script("receiver.store", name) for name in ("count", "reset", "forgive")]
    client.script_flush()
    store.prepare()
    assert client.script_exists(*(script.sha for script in made)) == [True, True, True]
