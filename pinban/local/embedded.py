"""The embedded store: a private redis-server or valkey-server on a unix socket, its data in the state directory."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import redis

from pinban.local.processes import start
from shared.errors import PinbanError

#: How long the server may load its data before it answers, s.
_LOADS_S = 30.0

#: sun_path holds 108 bytes with the closing NUL (unix(7)).
_LONGEST_PATH = 107


class EmbeddedStore:
    """A running store; `url` is what the settings need."""

    def __init__(self, directory: Path) -> None:
        """Start it with its data in `directory`, made if missing. PinbanError when it does not start."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = directory / "redis.sock"
        if len(bytes(path)) > _LONGEST_PATH:
            raise PinbanError(f"state_dir: {directory} is too long for a socket's path; choose a shorter one")
        self.url = f"unix://{path}"
        self._log = directory / "redis.log"
        self.process = start(
            [
                find_server(), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "600",
                "--dir", str(directory), "--appendonly", "yes", "--appendfsync", "everysec", "--save", "",
                "--maxmemory-policy", "noeviction", "--daemonize", "no", "--logfile", str(self._log),
            ]
        )  # fmt: skip
        self._await(redis.Redis(unix_socket_path=str(path)))

    def _await(self, client: redis.Redis) -> None:
        deadline = time.monotonic() + _LOADS_S
        while self.process.poll() is None:
            try:
                client.ping()
            except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
                if time.monotonic() > deadline:
                    break
                time.sleep(0.02)
            else:
                client.close()
                return
        self.process.terminate()
        self.process.wait()
        tail = self._log.read_text(errors="replace").splitlines()[-3:] if self._log.exists() else []
        raise PinbanError(f"the embedded store did not start; {self._log} says: {' | '.join(tail) or 'nothing'}")


def find_server() -> str:
    """The host's redis-server, else its valkey-server. PinbanError when it has neither."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    raise PinbanError("this host has no redis-server and no valkey-server; on Debian: apt-get install redis-server")
