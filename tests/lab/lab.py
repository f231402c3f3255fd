"""The whole lab: namespaces, wires and processes; all are gone when the with-block ends."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.lab import wires
from tests.lab.daemons import COMMON, RECEIVER, Enforcer, Receiver, Settings, enforcer_settings, merge
from tests.lab.netns import Namespace, sweep, unique_prefix
from tests.lab.nginx import Nginx
from tests.lab.process import Process
from tests.lab.redis_server import RedisServer
from tests.lab.stand_in import StandIn


@dataclass(frozen=True, slots=True)
class ReverseProxy:
    host: wires.Host  #: its namespace and addresses
    nginx: Nginx
    enforcer: Enforcer | None


class Lab:
    """A site with its attacker and its bystander. Use as a context manager; everything is up inside the block.

    settings replace parts of what all daemons of the lab are told (tests.lab.daemons). receivers is where nginx sends
    its log: address:port or unix:/path. directory keeps the logs; without it they are removed at the end.
    """

    def __init__(
        self,
        rps: int = 2,
        *,
        receiver: bool = True,
        enforcers: bool = True,
        settings: Settings | None = None,
        receivers: Sequence[str] = (f"{wires.CORE}:5514",),
        server: str = "",
        delay_ms: float = 5,
        chunked: bool = False,
        directory: Path | None = None,
    ) -> None:
        prefix = unique_prefix()
        self.directory = directory or Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        self._temporary = directory is None
        self._wires = Namespace(f"{prefix}-wires")
        self.core = wires.core(prefix)
        self.attacker = wires.client(prefix, "attacker", 66)
        self.bystander = wires.client(prefix, "bystander", 99)

        inside = self.core.namespace
        self.redis = RedisServer(self.directory / "redis", inside, bind=wires.CORE)
        told = merge(merge(COMMON, {"redis": {"url": self.redis.url}}), settings or {})
        self.node = StandIn(wires.CORE, self.directory, inside, delay_ms=delay_ms, chunked=chunked)
        self.receiver = Receiver(merge(RECEIVER, told), self.directory, inside) if receiver else None
        self.rps: list[ReverseProxy] = []
        for number in range(1, rps + 1):
            host = wires.reverse_proxy(prefix, number)
            place = self.directory / host.name
            nginx = Nginx(host.namespace, place, receivers=receivers, server=server)
            mine = merge(enforcer_settings(host.name), told)
            agent = Enforcer(host.name, mine, place, host.namespace) if enforcers else None
            self.rps.append(ReverseProxy(host, nginx, agent))

    @property
    def hosts(self) -> list[wires.Host]:
        return [self.core, *(rp.host for rp in self.rps), self.attacker, self.bystander]

    @property
    def processes(self) -> list[Process]:
        """In the order in which they start."""
        daemons = [self.receiver, *(rp.enforcer for rp in self.rps)]
        proxies = [rp.nginx.process for rp in self.rps]
        return [self.redis.process, self.node, *proxies, *(d for d in daemons if d)]

    def addresses(self, *, v6: bool = False) -> list[str]:
        """Of the reverse proxies, as clients see them."""
        return [rp.host.outside6 if v6 else rp.host.outside for rp in self.rps]

    def logs(self) -> str:
        """The end of every log."""
        errors = [f"--- {rp.host.name} error.log\n{rp.nginx.errors()[-3000:]}" for rp in self.rps]
        return "\n".join([*(process.tail() for process in self.processes), *errors])

    def __enter__(self) -> Self:
        try:
            self._lay_out()
            self._start()
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

    def close(self) -> None:
        """End every process, last started first, and remove every namespace. Idempotent; tries all of it."""
        with contextlib.ExitStack() as stack:
            if self._temporary:
                stack.callback(shutil.rmtree, self.directory, ignore_errors=True)
            for namespace in (self._wires, *(host.namespace for host in self.hosts)):
                stack.callback(namespace.remove)
            for process in self.processes:
                stack.callback(process.stop)

    def _lay_out(self) -> None:
        sweep()
        self._wires.create()
        wires.lay_bridges(self._wires)
        for host in self.hosts:
            host.namespace.create()
            wires.connect(self._wires, host)

    def _start(self) -> None:
        self.redis.start()
        self.node.start()
        for rp in self.rps:
            rp.nginx.start()
        self.redis.await_ready()
        self.node.await_ready(self.node.is_ready)
        for rp in self.rps:
            rp.nginx.await_ready()
        if self.receiver:
            self.receiver.start()
        for rp in self.rps:
            if rp.enforcer:
                rp.enforcer.start()
        if self.receiver:
            self.receiver.await_ready(self.receiver.is_ready)
        for rp in self.rps:
            if rp.enforcer:
                rp.enforcer.await_ready(partial(rp.enforcer.is_ready, self.redis))
