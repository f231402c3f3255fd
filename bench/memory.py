"""`make bench-memory`: what one counted address costs in Redis, in bytes.

Many addresses fail once each, counted by receiver.store as in a receiver: nginx's request id of 32 hexadecimal digits,
the address of a reverse proxy, an alias of usual length. The figure is the growth of used_memory (INFO memory, what
the allocator gave out) divided by the number of addresses, so keys, expiry and hash tables are in it. The Redis is a
private one on a unix socket, emptied before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import md5
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path

import msgspec
import redis

from receiver.failures import Failure
from receiver.store import Counters
from shared.addresses import Network
from shared.settings import Redis, Settings
from shared.store.store import Store
from tests.lab.machine import machine
from tests.lab.process import wait_until
from tests.lab.redis_server import RedisServer

#: The limit, bytes for an address.
LIMIT = 450

#: Failures counted in one round trip, as in receiver/counting.py.
_BATCH = 512

_FIRST = int(IPv4Address("100.64.0.0"))


@dataclass(frozen=True, slots=True)
class Used:
    addresses: int
    bytes: int  #: by how much used_memory grew
    seconds: float

    @property
    def each(self) -> float:
        """Bytes an address."""
        return self.bytes / self.addresses

    def line(self) -> str:
        """For people."""
        total = f"{self.bytes / 2**20:.1f} MiB for {self.addresses} addresses with one failure each"
        return f"{total}: {self.each:.0f} bytes an address, counted in {self.seconds:.1f} s"


def measure(client: redis.Redis, settings: Settings, addresses: int) -> Used:
    """Count one failure of each of so many addresses in a Redis that is empty, and see what that takes."""
    store = Store(client)
    counts = Counters(store, settings)
    store.prepare()
    now_ms = time.monotonic_ns() // 1_000_000
    counts.count([next(_failures(1, now_ms))], now_ms)  # buffers and script take their memory before
    client.flushall()
    before, began = _used(client), time.monotonic()
    failures = _failures(addresses, now_ms)
    while batch := list(islice(failures, _BATCH)):
        counts.count(batch, now_ms)
    seconds = time.monotonic() - began
    return Used(addresses, _used(client) - before, seconds)


def _failures(number: int, now_ms: int) -> Iterator[Failure]:
    for n in range(number):
        id_ = md5(b"%d" % n, usedforsecurity=False).hexdigest()
        network = Network(str(IPv4Address(_FIRST + n)))
        yield Failure(network, "pin", id_, f"10.0.0.{10 + n % 4}", f"meet.room{n % 1_000:03}", now_ms)


def _used(client: redis.Redis) -> int:
    """The allocator's bytes, when nothing is on its way to the append-only file."""
    wait_until(lambda: not client.info("persistence").get("aof_pending_bio_fsync"), "the file is written")
    return int(client.info("memory")["used_memory"])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when the limit does not hold."""
    parser = argparse.ArgumentParser(prog="bench.memory")
    parser.add_argument("--addresses", type=int, default=1_000_000)
    options = parser.parse_args(arguments)
    print(machine())
    print(
        "method    growth of used_memory by one failure of each address; ids of 32 digits, default prefix and rules\n"
    )
    with tempfile.TemporaryDirectory(prefix="pinban-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            server.await_ready()
            with server.client(timeout=10.0) as client:
                settings = msgspec.structs.replace(Settings(), redis=Redis(url=server.url))
                used = measure(client, settings, options.addresses)
        finally:
            server.stop()
    print(used.line())
    print(f"limit: {LIMIT} bytes an address: {'holds' if used.each <= LIMIT else 'DOES NOT HOLD'}")
    return int(used.each > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
