"""`make bench-bans`: what standing bans cost an enforcer: its start, one more ban, its memory.

A private Redis holds so many bans, nine of ten of IPv4 addresses and one of an IPv6 /64, each with its own end.
The enforcer runs as an operator runs it, in a network namespace with the iptables backend.

start       from the process's start to the moment when the kernel's sets have as many members as the ledger, by
            `ipset list -t` every 10 ms; that they are the same networks is seen afterwards. "again" is a start with the
            kernel full already: until the enforcer reports the ledger's revision, written once a second.
one more    from before the call of the receiver's own script in Redis to the element in the set, asked of the kernel by
            netlink every 50 us. Bans come twenty a second for 35 s, so that one check of the whole firewall, which
            comes every 30 s, is among them.
flood       how much of a processor the enforcer takes while a hundred thousand bans a minute come.
memory      VmHWM of the agent (proc(5)): its peak after the start, and after a check and a snapshot on top of it.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.latency import percentile
from shared.addresses import Network
from shared.events import Heartbeat, Stamp, encode
from shared.ledger import Ledger, NewBan
from shared.store import Keys
from shared.store.store import Store
from tests.lab.daemons import COMMON, Enforcer, enforcer_settings, merge
from tests.lab.kernel import Peephole, members
from tests.lab.machine import machine
from tests.lab.netns import Namespace, unique_prefix
from tests.lab.process import PATIENCE_S, LabError
from tests.lab.redis_server import RedisServer

#: Limits: a start with 100,000 bans, s; the agent's peak with a million, MiB; one more ban at 100,000 by that at 1,000.
START_S, PEAK_MIB, RATIO = 2.0, 400, 2.0

#: How long bans come one by one, s; a check every 30 s is among them.
ONE_BY_ONE_S = 35.0

#: A hundred thousand a minute; how long they come, s; and how much of a processor they may take.
FLOOD_PER_S, FLOOD_S, FLOOD_SHARE = 100_000 // 60, 6.0, 0.75

NODE, KEYS = "rp1", Keys()

_ENTRIES = re.compile(r"^Number of entries: (\d+)$", re.MULTILINE)


@dataclass
class Site:
    """A Redis with bans, and an enforcer that is not started yet."""

    server: RedisServer
    namespace: Namespace
    enforcer: Enforcer
    ledger: Ledger
    bans: int = 0
    over: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=count)

    def fill(self, bans: int) -> None:
        """So many bans of an hour and more."""
        with self.server.client(timeout=30.0) as client:
            end, networks, number = Store(client).now_ms() + 3_600_000, _networks(bans), 0
            while batch := list(islice(networks, 5_000)):
                client.zadd(KEYS.bans, {network: end + number + i for i, network in enumerate(batch)})
                number += len(batch)
            client.incr(KEYS.rev)
        self.bans = bans

    def start(self) -> float:
        """Start the enforcer with an empty kernel; s until the kernel agrees with the ledger."""
        began = time.monotonic()
        self.enforcer.start()
        self.enforcer.await_ready(lambda: self._entries() >= self.bans, 120.0)
        seconds = time.monotonic() - began
        self.await_report()
        with self.server.client(timeout=30.0) as client:
            wanted = {member.decode() for member in client.execute_command("ZRANGE", KEYS.bans, 0, -1)}
        if members(self.namespace) != wanted:
            raise LabError("the kernel holds other networks than the ledger")
        return seconds

    def start_again(self) -> float:
        """Start the enforcer with a full kernel; s until it says so."""
        began = time.monotonic()
        self.enforcer.start()
        self.await_report()
        return time.monotonic() - began

    def stop(self) -> None:
        """Stop the enforcer and forget its report."""
        self.enforcer.stop()
        with self.server.client() as client:
            client.delete(KEYS.node(NODE))

    def await_report(self) -> None:
        """Wait until the enforcer reports the ledger's revision."""
        with self.server.client() as client:
            self.enforcer.await_ready(lambda: client.hget(KEYS.node(NODE), "applied_rev") == client.get(KEYS.rev), 120)

    def resync(self) -> None:
        """Make a gap of one revision, and wait until the enforcer has read a snapshot because of it."""
        with self.server.client() as client:
            rev, epoch = int(client.incr(KEYS.rev)), (client.get(KEYS.epoch) or b"").decode()
            client.publish(KEYS.channel, encode(Heartbeat(Stamp(epoch, rev), 0)))
        self.await_report()

    def one_more(self, seconds: float, per_s: int = 20, ban_ms: int = 3_600_000) -> list[float]:
        """Ban one address after the other for so long; ms that each took to be in the kernel."""
        took, ends = [], time.monotonic() + seconds
        with Peephole(self.namespace) as hole:
            while time.monotonic() < ends:
                number = next(self._numbers)
                address = f"172.{16 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
                began = time.perf_counter()
                self.ledger.ban(NewBan(Network(address), ban_ms, "pin", "[]", "bench"))
                while not hole.sees(address):
                    if time.perf_counter() - began > PATIENCE_S:
                        raise LabError(f"{address} is not in the set after {PATIENCE_S:g} s")
                    time.sleep(0.00005)
                took.append((time.perf_counter() - began) * 1_000)
                time.sleep(1 / per_s)
        return took

    def flood(self, seconds: float) -> float:
        """A hundred thousand bans a minute for so long; how much of a processor the enforcer takes for them."""
        began, busy = time.monotonic(), self.busy()
        for n in range(int(seconds * FLOOD_PER_S)):
            self.ledger.ban(NewBan(Network(f"100.64.{n >> 8 & 255}.{n & 255}"), 3_600_000, "pin", "[]", "bench"))
            if n % 50 == 0:
                time.sleep(max(n / FLOOD_PER_S - (time.monotonic() - began), 0))
        self.await_report()
        return (self.busy() - busy) / (time.monotonic() - began)

    def memory(self, name: str = "VmHWM") -> float:
        """The agent's peak, MiB."""
        found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{self.enforcer.pid}/status").read_text(), re.MULTILINE)
        return int(found[1]) / 1024 if found else 0.0

    def busy(self) -> float:
        """Processor time of the enforcer and the programs it has called, s (proc(5): utime, stime, cutime, cstime)."""
        fields = Path(f"/proc/{self.enforcer.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def log(self) -> str:
        """The log of the enforcer."""
        return self.enforcer.log.read_text(errors="replace")

    def disarm(self) -> None:
        """Empty the kernel."""
        self.namespace.run([*self.enforcer.argv, "--disarm"])

    def _entries(self) -> int:
        return sum(map(int, _ENTRIES.findall(self.namespace.run(["ipset", "list", "-t"], check=False).stdout)))


@contextmanager
def site(over: Mapping[str, Any] = MappingProxyType({})) -> Iterator[Site]:
    """A new site, with these settings beside the usual ones. Heartbeats come as from a receiver."""
    namespace = Namespace(f"{unique_prefix()}-rp")
    with tempfile.TemporaryDirectory(prefix="pinban-") as directory:
        server = RedisServer(Path(directory))
        server.start()
        try:
            server.await_ready()
            namespace.create()
            told = merge(COMMON, merge(enforcer_settings(NODE), {"redis": {"url": server.url}}))
            enforcer = Enforcer(NODE, merge(told, over), Path(directory), namespace)
            with server.client() as client, server.client() as heart:
                site = Site(server, namespace, enforcer, Ledger(Store(client)))
                site.ledger.heartbeat("rx1")
                beating = threading.Thread(target=_heartbeat, args=(Ledger(Store(heart)), site.over))
                beating.start()
                try:
                    yield site
                finally:
                    enforcer.stop()
                    site.over.set()
                    beating.join()
        finally:
            server.stop()
            namespace.remove()


def _heartbeat(ledger: Ledger, over: threading.Event) -> None:
    while not over.wait(1.0):
        ledger.heartbeat("rx1")


def _networks(number: int) -> Iterator[Network]:
    for i in range(number):
        if i % 10 == 9:
            yield Network(f"2001:db8:{1 + (i >> 16):x}:{i & 65535:x}::/64")
        else:
            yield Network(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")


def _spread(values: Sequence[float], unit: str) -> str:
    return f"min {min(values):6.2f}   median {statistics.median(values):6.2f}   max {max(values):6.2f} {unit}"


def report(bans: int, runs: int) -> tuple[list[float], list[float], float, float]:
    """Measure one size and print it: the starts, s; one more ban each, ms; the peak, MiB; the flood's share."""
    starts, again = [], []
    with site() as one:
        one.fill(bans)
        for _ in range(runs):
            starts.append(one.start())
            one.stop()
            again.append(one.start_again())
            one.stop()
            one.disarm()
        one.start()
        peak = one.memory()
        print(f"{bans:9,} bans   start          {_spread(starts, 's')}")
        print(f"{'':16}start again    {_spread(again, 's')}")
        took = one.one_more(ONE_BY_ONE_S)
        figures = f"p50 {percentile(took, 50):.2f}   p99 {percentile(took, 99):.2f}   max {max(took):.2f} ms"
        print(f"{'':16}one more ban   {figures}, {len(took)} bans")
        share = one.flood(FLOOD_S)
        print(f"{'':16}flood          {share:.0%} of a processor")
        one.resync()
        later = one.memory()
        print(
            f"{'':16}memory         peak {peak:.0f} MiB after the start, {later:.0f} MiB after check and snapshot;"
            f" {one.memory('VmRSS'):.0f} MiB at rest\n",
            flush=True,
        )
    return starts, took, later, share


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a limit does not hold."""
    parser = argparse.ArgumentParser(prog="bench.bans")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--bans", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000])
    options = parser.parse_args(arguments)
    print(machine())
    print(f"method    an enforcer as a process, backend iptables, {options.runs} starts each; see bench/bans.py\n")
    medians, good = {}, True
    for bans in options.bans:
        starts, took, peak, share = report(bans, options.runs if bans <= 100_000 else 1)
        medians[bans] = statistics.median(took)
        good &= peak < PEAK_MIB and share < FLOOD_SHARE and (bans != 100_000 or statistics.median(starts) < START_S)
    if {1_000, 100_000} <= medians.keys():
        good &= medians[100_000] < RATIO * medians[1_000]
    print(f"limits    start with 100,000 bans < {START_S:g} s, one more ban at 100,000 < {RATIO:g} x that at 1,000")
    print(f"          (medians), peak < {PEAK_MIB} MiB, flood < {FLOOD_SHARE:.0%}: {'hold' if good else 'DO NOT HOLD'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
