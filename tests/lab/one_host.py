"""Redis, receiver and enforcer on one host, each with its own settings: for tests of rights and secrets."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.lab.daemons import COMMON, HTTP, Enforcer, Receiver, Settings, enforcer_settings, merge
from tests.lab.datagrams import Sender, failure
from tests.lab.kernel import members
from tests.lab.netns import Namespace, sweep, unique_prefix
from tests.lab.process import PATIENCE_S, Process, wait_until
from tests.lab.redis_server import RedisServer

#: Where its receiver listens.
LISTEN = ("127.0.0.1", 5514)

_RECEIVER: Settings = {
    "receiver": {"listen": [f"udp:{LISTEN[0]}:{LISTEN[1]}"], "http": f"{HTTP[0]}:{HTTP[1]}", "workers": 2}
}


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """A folder with a short name that every user can read, gone afterwards."""
    path = Path(tempfile.mkdtemp(prefix="pinban-"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


class OneHost:
    """Use as a context manager: everything is up inside the block, unless `start` is false.

    `redis` are directives of redis.conf, `login` the user and password of the tests. `receiver` and `enforcer` are
    settings of each; `before` is put before their commands.
    """

    def __init__(
        self,
        directory: Path,
        *,
        redis: Mapping[str, str] | None = None,
        login: tuple[str, str] | None = None,
        receiver: Settings | None = None,
        enforcer: Settings | None = None,
        before: Mapping[str, Sequence[str]] | None = None,
        start: bool = True,
    ) -> None:
        self.namespace = Namespace(f"{unique_prefix()}-host")
        self.directory = directory
        self.redis = RedisServer(directory / "redis", self.namespace, bind="127.0.0.1", more=redis, login=login)
        told = merge(COMMON, {"redis": {"url": self.redis.url}})
        mine = merge(told, merge(_RECEIVER, receiver or {}))
        self.receiver = Receiver(mine, directory, self.namespace)
        mine = merge(told, merge(enforcer_settings("rp1"), enforcer or {}))
        self.enforcer = Enforcer("rp1", mine, directory, self.namespace)
        for process in (self.receiver, self.enforcer):
            process.argv = [*(before or {}).get(process.name, ()), *process.argv]
        self._start = start

    @property
    def processes(self) -> list[Process]:
        """In the order in which they start."""
        return [self.redis.process, self.receiver, self.enforcer]

    def __enter__(self) -> OneHost:
        sweep()
        self.namespace.create()
        try:
            if self._start:
                self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error:
            error.add_note(self.logs())
        self.close()

    def start(self) -> None:
        """Start everything and wait until it works."""
        self.redis.start()
        self.redis.await_ready()
        self.receiver.start()
        self.enforcer.start()
        self.await_well()

    def await_well(self) -> None:
        """The receiver counts and the enforcer follows."""
        self.receiver.await_ready(self.receiver.is_ready)
        self.enforcer.await_ready(lambda: self.enforcer.is_ready(self.redis))

    def close(self) -> None:
        """End all processes and remove the namespace. Idempotent; tries all of it."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.namespace.remove)
            for process in self.processes:
                stack.callback(process.stop)

    def logs(self) -> str:
        """The end of every log."""
        return "\n".join(process.tail() for process in self.processes)

    def send(self, *datagrams: bytes) -> None:
        """Send to the receiver, as nginx would."""
        with Sender(self.namespace, LISTEN) as sender:
            for data in datagrams:
                sender.send(data)

    def fail(self, address: str, times: int, *, alias: str = "", ids: str = "") -> None:
        """Send this many wrong PINs of an address."""
        self.send(*(failure(address, f"{ids or address}-{n}", alias) for n in range(times)))

    def await_ban(self, address: str, seconds: float = PATIENCE_S) -> None:
        """Return when the kernel drops the address."""
        wait_until(lambda: address in members(self.namespace), f"the kernel drops {address}", seconds)
