"""The receiver and the enforcers as an operator runs them: a settings file and a command."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from receiver.standby import NAME as STANDBY
from tests.lab.http1 import Answer, Connection
from tests.lab.netns import Namespace
from tests.lab.process import Process
from tests.lab.redis_server import RedisServer

Settings = Mapping[str, Any]  #: as tomllib reads it

#: The receiver's own HTTP, as [receiver] http; only its host may ask.
HTTP = ("127.0.0.1", 8514)

#: The settings of every daemon of the lab.
COMMON: Settings = {
    "ignoreip": ["127.0.0.0/8", "::1"],
    "rules": {"pin": {"maxretry": 5, "findtime": "5m", "bantime": "5m"}},
}

RECEIVER: Settings = {
    "receiver": {
        "node": "rx1",
        "listen": ["udp:10.77.0.1:5514"],
        "senders": ["10.77.0.0/24"],
        "http": f"{HTTP[0]}:{HTTP[1]}",
        "workers": 2,
    }
}


def enforcer_settings(node: str) -> Settings:
    """Without probes, so that a test that counts datagrams counts only those that it sent."""
    return {"enforcer": {"node": node, "backend": "iptables", "ports": [80, 443], "probe_url": ""}}


class Receiver(Process):
    def __init__(self, settings: Settings, directory: Path, namespace: Namespace) -> None:
        self._namespace = namespace
        super().__init__("receiver", _command("receiver", settings, directory), directory, namespace)

    def is_ready(self) -> bool:
        return self.status("/readyz") == 200

    def get(self, path: str) -> bytes | None:
        """The body of a page of its HTTP side; None unless it answered with 200."""
        answer = self._namespace.call(lambda: _get(path))
        return answer.body if answer and answer.status == 200 else None

    def status(self, path: str) -> int:
        """The status of a page of its HTTP side; 0 without an answer."""
        answer = self._namespace.call(lambda: _get(path))
        return answer.status if answer else 0

    def workers(self) -> list[int]:
        """The processes that gunicorn manages."""
        return [pid for pid, name in self._children() if name != STANDBY]

    def standby(self) -> list[int]:
        """The processes that read while no worker does: one, where there is a unix socket."""
        return [pid for pid, name in self._children() if name == STANDBY]

    def _children(self) -> Iterator[tuple[int, str]]:
        for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split():
            with suppress(FileNotFoundError, ProcessLookupError):
                yield int(pid), Path(f"/proc/{pid}/comm").read_text().strip()


class Enforcer(Process):
    def __init__(self, node: str, settings: Settings, directory: Path, namespace: Namespace) -> None:
        self._node = node
        super().__init__("enforcer", _command("enforcer", settings, directory), directory, namespace)

    def is_ready(self, server: RedisServer) -> bool:
        """It has reported that its firewall has the revision of the ledger."""
        with server.client() as client:
            return bool(client.hexists(f"{{pinban}}:node:{self._node}", "applied_rev"))


def set_constants(daemon: Process, constants: Mapping[str, float]) -> None:
    """Have a daemon start with other constants, by module.NAME. Where two ways lead to the same end, a test makes one
    of them too slow to be it, and needs no clock to tell them apart.
    """
    lines = [f"import sys, {daemon.name}.main"]
    for constant, value in constants.items():
        module, _, name = constant.rpartition(".")
        lines += [f"import {module}", f"{module}.{name}", f"{constant} = {value}"]
    lines.append(f"sys.exit({daemon.name}.main.main(sys.argv[1:]))")
    daemon.argv[:1] = [sys.executable, "-c", "\n".join(lines)]


def merge(base: Settings, over: Settings) -> dict[str, Any]:
    """Both together, table by table; `over` wins."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        tables = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(merged[key], value) if tables else value
    return merged


def to_toml(settings: Settings, table: str = "") -> str:
    """Tables, strings, numbers, booleans and lists of them, which JSON writes as TOML does."""
    lines = [f"[{table}]"] if table else []
    lines += [f"{k} = {json.dumps(v)}" for k, v in settings.items() if not isinstance(v, Mapping)]
    for key, value in settings.items():
        if isinstance(value, Mapping):
            lines.append(to_toml(value, f"{table}.{key}" if table else key))
    return "\n".join(lines)


def _command(name: str, settings: Settings, directory: Path) -> list[str]:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{name}.toml"
    file.write_text(to_toml(settings) + "\n")
    return [str(Path(sys.executable).with_name(f"pinban-{name}")), "-c", str(file)]


def _get(path: str) -> Answer | None:
    try:
        with Connection(*HTTP) as connection:
            return connection.ask("GET", path)
    except OSError:
        return None
