"""A Redis that is full, nearly full, or may throw away what it holds: operators are told, and bans still work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from click.testing import CliRunner, Result

from pinban.cli import main
from receiver.failures import Failure
from receiver.store.counters import Counters
from shared.addresses import Network
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Redis, Settings
from shared.store.memory import losses, read_memory
from shared.store.store import Store
from tests.lab.kernel import members
from tests.lab.one_host import OneHost, public_folder
from tests.lab.process import wait_until
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS
from tests.redis.conftest import members as entries
from tests.redis.counting import counting, failures, with_rooms

A, B = Network("203.0.113.7"), Network("203.0.113.8")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with public_folder() as place:
        yield place


@pytest.fixture(scope="module")
def host(place: Path) -> Iterator[OneHost]:
    with OneHost(place / "host", redis={"maxmemory-policy": "allkeys-lru"}) as host:
        yield host


@pytest.fixture
def server_client(host: OneHost) -> Iterator[redis.Redis]:
    with host.redis.client() as client:
        yield client
        client.config_set("maxmemory", 0)


@pytest.fixture
def run(host: OneHost, place: Path) -> Callable[..., Result]:
    (place / "operator.toml").write_text(f'[redis]\nurl = "unix://{host.redis.socket}"\n')
    return lambda *words: CliRunner().invoke(main, ["-c", str(place / "operator.toml"), *words])


def test_a_policy_that_may_throw_bans_away_is_shouted_about_and_stops_nothing(
    host: OneHost, server_client: redis.Redis, run: Callable[..., Result]
) -> None:
    said = "maxmemory-policy allkeys-lru may throw bans away; set volatile-ttl or noeviction"
    wait_until(lambda: said in host.receiver.log.read_text(), "the receiver says it")
    assert "ERROR" in next(line for line in host.receiver.log.read_text().splitlines() if said in line)
    shown = run("status")
    assert shown.exit_code == 1
    assert f"! Redis: {said}" in shown.output
    host.fail("203.0.113.1", 5)
    host.await_ban("203.0.113.1")
    server_client.config_set("maxmemory-policy", "noeviction")
    wait_until(lambda: run("status").exit_code == 0, "all is well")
    assert host.receiver.log.read_text().count(said) <= 2, "once a minute for each worker"


@pytest.mark.row(5)
def test_a_full_redis_is_told_and_bans_come_and_go_all_the_same(
    host: OneHost, server_client: redis.Redis, run: Callable[..., Result]
) -> None:
    workers = host.receiver.workers()
    host.fail("203.0.113.2", 4)
    wait_until(lambda: server_client.get("pinban:count:{203.0.113.2}:pin") == b"4", "four failures")
    server_client.config_set("maxmemory", "1mb")
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        server_client.set("other", 1)
    host.fail("203.0.113.2", 1, ids="the fifth")
    host.fail("203.0.113.3", 5)
    for address in ("203.0.113.2", "203.0.113.3"):
        host.await_ban(address)
    assert run("unban", "203.0.113.3").exit_code == 0
    wait_until(lambda: "203.0.113.3" not in members(host.namespace), "the unban arrives")
    assert run("ban", "203.0.113.4").exit_code == 0
    host.await_ban("203.0.113.4")
    shown = run("status")
    assert shown.exit_code == 1
    assert "! Redis is full: " in shown.output
    assert "raise maxmemory" in shown.output
    wait_until(lambda: host.receiver.status("/readyz") == 503, "the receiver is not well")
    refused = run("allow", "203.0.113.5")
    assert (refused.exit_code, refused.output.count("\n")) == (1, 1)
    assert "is full" in refused.output
    server_client.delete(KEYS.heartbeat)
    wait_until(lambda: server_client.get(KEYS.heartbeat) is not None, "heartbeats go on")

    assert host.enforcer.stop() == 0
    host.namespace.run(["ipset", "flush", "pinban4"])
    host.enforcer.start()
    host.await_ban("203.0.113.2")

    server_client.config_set("maxmemory", 0)
    wait_until(host.receiver.is_ready, "the receiver is well again")
    wait_until(lambda: run("status").exit_code == 0, "all is well")
    assert host.receiver.workers() == workers
    assert "Traceback" not in host.receiver.log.read_text() + host.enforcer.log.read_text()


def test_with_volatile_ttl_a_flood_of_addresses_costs_counters_and_no_ban(
    settings: Settings, client: redis.Redis
) -> None:
    ledger, counts = Ledger(Store(client)), Counters(Store(client), settings)
    banned = {f"198.51.{n // 250}.{n % 250}" for n in range(1_000)}
    for address in banned:
        ledger.ban(NewBan(Network(address), 60_000, "pin", "[]", "rx1"))
    used = int(read_memory(Store(client))["used_memory"])
    try:
        client.config_set("maxmemory-policy", "volatile-ttl")
        client.config_set("maxmemory", used + (1 << 20))
        for start in range(0, 12_000, 500):
            flood = [f"203.{n // 62_500}.{n // 250 % 250}.{n % 250}" for n in range(start, start + 500)]
            counts.count([Failure(Network(address), "pin", address, "rp1", "m", 0) for address in flood], 0)
        evicted: Any = client.info("stats")
        assert evicted["evicted_keys"] > 1_000
        assert {member for member, _ in entries(client, KEYS.bans)} == banned
        assert client.get(KEYS.rev) == b"1000"
        assert any("nearly full" in loss or "is full" in loss for loss in losses(read_memory(Store(client))))
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def test_joins_are_forgiven_in_a_full_redis_and_keep_no_guesser_from_being_banned(
    settings: Settings, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with counting(with_rooms(settings, forgive_on_join=2)) as site:
        try:
            client.config_set("maxmemory", "1mb")
            site.take(failures(A, 2))
            site.put([joined(), joined(), *failures(B, 700)])
            wait_until(lambda: client.zscore(KEYS.bans, B) is not None, "the guesser is banned")
            site.settle()
        finally:
            client.config_set("maxmemory", 0)
    assert client.get(KEYS.count(A, "pin")) is None
    assert not any(record.levelname == "ERROR" for record in caplog.records)


def test_a_join_that_an_old_acl_forbids_to_forgive_is_told_and_stops_nothing(
    settings: Settings, client: redis.Redis, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told = "no wrong PIN is taken back for a right one"
    (tmp_path / "password").write_text("secret")
    allow = partial(Store(client).call, "ACL SETUSER", "reader")
    limited = Redis(url=settings.redis.url, username="reader", password_file=str(tmp_path / "password"))
    try:
        patterns = ("~pinban:count:*", "~pinban:window:*", "~pinban:room:*", "~{pinban}:*")
        allow("reset", "on", ">secret", "allcommands", "allchannels", *patterns)
        forgiving = with_rooms(msgspec.structs.replace(settings, redis=limited), forgive_on_join=2)
        with counting(forgiving) as site:
            site.take([joined(), joined(), *failures(B, 5)])
            site.take([joined(), *failures(A, 2)])
            assert told in site.troubles["forgiving"]
            assert caplog.text.count(told) == 1, "once while it lasts"
            assert client.zscore(KEYS.bans, B) is not None
            allow("allkeys")
            site.take([joined()])
            assert site.troubles["forgiving"] == ""
            assert client.get(KEYS.count(A, "pin")) is None
            assert "right PINs take wrong ones back again" in caplog.text
    finally:
        client.acl_deluser("reader")


def test_a_join_waits_while_redis_is_away(settings: Settings, server: RedisServer, client: redis.Redis) -> None:
    """Then nothing can be counted either, so it need not be given up."""
    with counting(with_rooms(settings, forgive_on_join=2)) as site:
        site.take(failures(A, 2))
        server.freeze()
        site.put([joined()])
        wait_until(lambda: site.troubles["counting"] != "", "it is tried")
        server.thaw()
        site.settle()
    assert client.get(KEYS.count(A, "pin")) is None


def joined() -> Failure:
    return dataclasses.replace(failures(A, 1)[0], joined=True)


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({}, []),
        ({"maxmemory_policy": "noeviction", "maxmemory": 0, "used_memory": 1 << 30}, []),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": 100, "used_memory": 89}, []),
        ({"maxmemory_policy": "volatile-lru", "maxmemory": 100, "used_memory": 90}, ["nearly full"]),
        ({"maxmemory_policy": "noeviction", "maxmemory": 100, "used_memory": 100}, ["is full"]),
        ({"maxmemory_policy": "allkeys-random", "maxmemory": 0, "used_memory": 1}, ["allkeys-random"]),
        ({"maxmemory_policy": "allkeys-lfu", "maxmemory": 10, "used_memory": 11}, ["allkeys-lfu", "is full"]),
    ],
)
def test_what_costs_bans_is_told(facts: dict[str, Any], told: list[str]) -> None:
    found = losses(facts)
    assert len(found) == len(told)
    assert all(word in loss for word, loss in zip(told, found, strict=True))
