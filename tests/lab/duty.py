"""A receiver and an enforcer at work in their own namespace, under a steady load of which every line is known.

Strays fail less often than the limit, so their windows keep all that was counted. Culprits reach the limit, so the
kernel shows when a ban arrives.
"""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import redis

from shared.settings.schema import Redis, Settings
from shared.store.connection import connect
from tests.lab.daemons import COMMON, Enforcer, Receiver, enforcer_settings, merge
from tests.lab.datagrams import failure
from tests.lab.kernel import Peephole, members
from tests.lab.netns import Namespace
from tests.lab.process import wait_until

_PORT = 5514

#: The load: in each interval one culprit's failures and some of strays, 2,000 lines a second together.
_TICK_S = 0.05
_CULPRIT_FAILS, _STRAY_FAILS = 5, 4
_STRAYS = 24
PER_SECOND = int((_CULPRIT_FAILS + _STRAYS * _STRAY_FAILS - 1) / _TICK_S)


@dataclass(slots=True)
class Load:
    """What was sent, and what became of it; times are s of the monotonic clock."""

    culprits: dict[str, float] = field(default_factory=dict)  #: address -> when its last failure was sent
    strays: list[str] = field(default_factory=list)
    dropped: dict[str, float] = field(default_factory=dict)  #: culprit -> when the kernel was first seen to drop it
    sent: int = 0

    def lost(self, counted: Mapping[str, int], kernel: Collection[str]) -> int:
        """How many failures of strays are missing, plus all failures of culprits that the kernel does not drop.

        AssertionError when one was counted twice.
        """
        assert max(counted.values()) <= _STRAY_FAILS
        unpunished = sum(address not in kernel for address in self.culprits)
        return sum(_STRAY_FAILS - each for each in counted.values()) + _CULPRIT_FAILS * unpunished

    def bans_since(self, moment: float) -> int:
        """How many culprits are dropped whose last failure was sent after this moment."""
        return sum(self.culprits[address] >= moment for address in list(self.dropped))

    def longest_wait(self) -> float:
        """From the last failure of a culprit until the kernel dropped it, s; of those that were dropped."""
        return max(at - self.culprits[address] for address, at in self.dropped.items())


class Duty:
    """The two daemons. Bans outlast any test."""

    def __init__(self, directory: Path, namespace: Namespace, url: str) -> None:
        told = merge(COMMON, {"redis": {"url": url}, "rules": {"pin": {"bantime": "1h", "findtime": "1h"}}})
        listen = {"node": "rx1", "listen": [f"udp:127.0.0.1:{_PORT}"], "senders": ["127.0.0.0/8"]}
        self._settings = msgspec.structs.replace(Settings(), redis=Redis(url=url))
        self.namespace = namespace
        self.receiver = Receiver(merge(told, {"receiver": listen}), directory, namespace)
        self.enforcer = Enforcer("rp1", merge(enforcer_settings("rp1"), told), directory, namespace)

    def client(self) -> redis.Redis:
        """What our daemons use. Connects from inside: use it within `namespace.call`."""
        return connect(self._settings, "test", 5.0).client

    def node(self, name: str) -> dict[str, str]:
        """The hash that a daemon writes about itself; empty while Redis does not answer."""

        def read() -> dict[str, str]:
            with self.client() as client:
                return {k.decode(): v.decode() for k, v in client.hgetall(f"{{pinban}}:node:{name}").items()}

        try:
            return self.namespace.call(read)
        except redis.RedisError:
            return {}

    def ledger(self) -> set[str]:
        """Who is banned by the ledger."""

        def read() -> set[str]:
            with self.client() as client:
                return {member.decode() for member in client.zrange("{pinban}:bans", 0, -1)}

        return self.namespace.call(read)

    def kernel(self) -> set[str]:
        """Who is banned in the kernel."""
        return members(self.namespace)

    def counted(self, addresses: list[str]) -> dict[str, int]:
        """How many failures the window of each address holds."""

        def read() -> dict[str, int]:
            with self.client() as client:
                pipeline = client.pipeline(transaction=False)
                for address in addresses:
                    pipeline.zcard(f"pinban:window:{{{address}}}:pin")
                return dict(zip(addresses, pipeline.execute(), strict=True))

        return self.namespace.call(read)

    def received(self) -> int:
        """How many lines the receiver has read."""
        return int(self.node("rx1")["received"])

    def await_settled(self, sent: int) -> None:
        """Wait until everything that was sent is counted."""

        def settled() -> bool:
            totals = self.node("rx1")
            return int(totals.get("received", 0)) >= sent and totals["queued"] == "0"

        wait_until(settled, f"{sent} lines are counted")

    def await_followed(self) -> None:
        """Wait until the enforcer reports no trouble and the ledger's revision."""

        def followed() -> bool:
            def rev() -> str:
                with self.client() as client:
                    return (client.get("{pinban}:epoch") or b"").decode() + (client.get("{pinban}:rev") or b"").decode()

            try:
                said = self.node("rp1")
                return said.get("trouble") == "" and said["epoch"] + said["applied_rev"] == self.namespace.call(rev)
            except redis.RedisError:
                return False

        wait_until(followed, "the enforcer has followed")

    @contextmanager
    def load(self, octet: int) -> Iterator[Load]:
        """Load inside the block, from addresses 10.octet.0.0/16."""
        load, ended = Load(), threading.Event()
        sending = self.namespace.start(lambda: _send(load, octet, ended))
        watching = self.namespace.start(lambda: _watch(load, self.namespace, ended))
        try:
            yield load
        finally:
            ended.set()
            sending.result()
            watching.result()


@contextmanager
def on_duty(directory: Path, namespace: Namespace, url: str) -> Iterator[Duty]:
    """Both daemons run inside the block and must live to its end."""
    duty = Duty(directory, namespace, url)
    with ExitStack() as stack:
        for process in (duty.receiver, duty.enforcer):
            stack.callback(process.stop)
            process.start()
        duty.receiver.await_ready(duty.receiver.is_ready)
        wait_until(lambda: duty.node("rp1").get("trouble") == "", "the enforcer follows")
        workers = duty.receiver.workers()
        try:
            yield duty
        except BaseException as error:
            error.add_note("\n".join((duty.receiver.tail(), duty.enforcer.tail())))
            raise
        assert duty.receiver.workers() == workers, "no worker was replaced"
        assert duty.enforcer.running


def _send(load: Load, octet: int, ended: threading.Event) -> None:
    numbers = itertools.count()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.connect(("127.0.0.1", _PORT))
        due = time.monotonic()
        while not ended.is_set():
            tick = next(numbers)
            culprit = f"10.{octet}.{tick // 250}.{tick % 250 + 1}"
            strays = [f"10.{octet + 1 + n // 2}.{tick // 125}.{tick % 125 * 2 + n % 2}" for n in range(_STRAYS)]
            addresses = [culprit] * _CULPRIT_FAILS
            addresses += [stray for stray in strays for _ in range(_STRAY_FAILS)][:-1]
            for number, address in enumerate(addresses):
                sender.send(failure(address, f"{octet:04x}{tick:012x}{number:016x}"))
            load.sent += len(addresses)
            load.culprits[culprit] = time.monotonic()
            load.strays += strays[:-1]  # the last one lacks a failure, to make the number round
            due += _TICK_S
            ended.wait(max(due - time.monotonic(), 0))


def _watch(load: Load, namespace: Namespace, ended: threading.Event) -> None:
    with Peephole(namespace) as peephole:
        while True:
            last = ended.is_set()
            for address in [each for each in list(load.culprits) if each not in load.dropped]:
                if peephole.sees(address):
                    load.dropped[address] = time.monotonic()
            if last:
                return
            time.sleep(0.01)
