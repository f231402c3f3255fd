"""A private redis-server that can be stopped, killed, frozen and started again with its data."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.lab.netns import Namespace
from tests.lab.process import LabError, Process, wait_until

#: sockaddr_un.sun_path holds 108 bytes with the final zero (unix(7)).
LONGEST_SOCKET_PATH = 107


class RedisServer:
    """Appends to a file every second, as a production Redis should. Always listens on a unix socket, which works from
    every network namespace; on TCP only if `bind` says where. `more` are directives of redis.conf, and `login` the user
    and password of its clients here.
    """

    def __init__(
        self,
        directory: Path,
        namespace: Namespace | None = None,
        *,
        bind: str = "",
        port: int = 6379,
        more: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
    ) -> None:
        self._login = login
        self.socket = directory / "redis.sock"
        if len(str(self.socket)) > LONGEST_SOCKET_PATH:
            raise LabError(f"{self.socket}: too long for a unix socket; use a shorter directory")
        directory.mkdir(parents=True, exist_ok=True)
        #: What others put into [redis] url.
        self.url = f"redis://{bind}:{port}/0" if bind else f"unix://{self.socket}"
        settings = {
            "port": str(port if bind else 0),
            "unixsocket": str(self.socket),
            "dir": str(directory),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "protected-mode": "no",
        }
        if bind:
            settings["bind"] = bind
        argv = ["redis-server"]
        for key, value in (settings | dict(more or {})).items():
            argv += [f"--{key}", *value.split(" ")]
        self.process = Process("redis", argv, directory, namespace)

    def client(self, *, timeout: float = 5.0) -> redis.Redis:
        """A client from wherever the caller is, which tries again once; timeout in seconds. The caller closes it."""
        return redis.Redis(
            unix_socket_path=str(self.socket),
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 1),
            protocol=2,  # as pinban speaks
            username=self._login[0] if self._login else None,
            password=self._login[1] if self._login else None,
        )

    def start(self) -> None:
        """Start it; it may still be loading."""
        self.process.start()

    def await_ready(self) -> None:
        self.process.await_ready(self._answers)

    def restart(self) -> None:
        """Stop cleanly, start with the same data, and wait."""
        self.stop()
        self.start()
        self.await_ready()

    def stop(self) -> None:
        self.process.stop()

    def kill(self) -> None:
        """Crash: up to a second of writes is lost."""
        self.process.kill()

    def freeze(self) -> None:
        """Stop answering while connections stay open, as a stalled host does; returns when that is so."""
        self.process.signal(signal.SIGSTOP)
        state = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "T", "redis is frozen")

    def thaw(self) -> None:
        self.process.signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False
