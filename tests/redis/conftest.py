"""One redis-server for the session, empty and answering at the start of every test."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import redis
from click.testing import CliRunner, Result

from pinban.cli import main
from shared.addresses import Network
from shared.ledger.changes import Ledger
from shared.settings.schema import Redis, Settings
from shared.store.keys import Keys
from shared.store.store import Store
from tests.lab.redis_server import RedisServer

KEYS = Keys()

A, B = Network("203.0.113.7"), Network("2001:db8:1:2::/64")

Run = Callable[..., Result]


def as_json(result: Result, code: int = 0) -> Any:
    assert result.exit_code == code, result.output
    return json.loads(result.output)


def plain(reply: bytes | str | None) -> str:
    """A reply as text."""
    return reply.decode() if isinstance(reply, bytes) else reply or ""


def text(client: redis.Redis, key: str) -> str:
    """The string at a key, "" when there is none."""
    return plain(client.get(key))


def facts(client: redis.Redis, key: str) -> dict[str, str]:
    """The hash at a key."""
    return {plain(name): plain(value) for name, value in client.hgetall(key).items()}


def members(client: redis.Redis, key: str) -> list[tuple[str, int]]:
    """The sorted set at a key, lowest score first."""
    rows: list[Any] = client.zrange(key, 0, -1, withscores=True)
    return [(plain(member), int(score)) for member, score in rows]


def history(client: redis.Redis) -> list[dict[str, str]]:
    """The ledger's history, oldest first."""
    entries = client.xrange(KEYS.history) or []
    return [{plain(k): plain(v) for k, v in (fields or {}).items()} for _, fields in entries]


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    server.await_ready()
    yield server
    server.stop()


@pytest.fixture
def server(running: RedisServer) -> Iterator[RedisServer]:
    """The test may kill or freeze it."""
    with running.client() as client:
        client.flushall()
    yield running
    running.thaw()
    if not running.process.running:
        running.start()
    running.await_ready()


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture
def settings(server: RedisServer) -> Settings:
    return msgspec.structs.replace(
        Settings(), redis=Redis(url=server.url), ignoreself=False, ignoreip=("198.51.100.0/24",)
    )


@pytest.fixture
def run(server: RedisServer, tmp_path: Path) -> Run:
    """`pinban` with the given words."""
    config = tmp_path / "pinban.toml"
    config.write_text(
        f'ignoreip = ["198.51.100.0/24"]\nignoreself = false\n[redis]\nurl = "{server.url}"\n', encoding="utf-8"
    )
    return lambda *words: CliRunner().invoke(main, ["-c", str(config), *words])


@pytest.fixture
def deaf_to_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Followers of this test do not read a snapshot because nothing is heard: what they do, they do for an event."""
    monkeypatch.setattr("enforcer.follower.SILENCE_S", 3_600.0)


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that this process connects to, in order, answered or not."""
    hosts: list[str] = []

    class Noted(socket.socket):
        def connect(self, address: Any) -> None:
            hosts.append(address[0])
            super().connect(address)

    monkeypatch.setattr(socket, "socket", Noted)
    return hosts


@pytest.fixture
def ledger(settings: Settings, client: redis.Redis) -> Ledger:
    return Ledger(Store(client))
