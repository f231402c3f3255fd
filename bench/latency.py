"""`make bench-latency`: from the datagram that makes an address reach its limit to the element in every kernel's set.

Each ban is of a new address. Four of its failures are counted first; t0 is taken just before the fifth is sent to the
receiver, from the reverse proxies in turn. From then on one poller asks the kernel of every reverse proxy that has not
answered yes: IPSET_CMD_TEST on a raw netlink socket, 5 us each, with a pause of 100 us between two rounds. The poller
does not use the enforcer, stops when all kernels have the element, and its pauses leave most of a core free. The time
of an element is when the answer arrived, so each figure is too high by up to one round, which is reported as the
resolution; none is too low. A random pause between two bans keeps the measurement out of step with the system.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

from tests.lab.datagrams import Sender, failure
from tests.lab.half_open import HALF_OPEN, half_open
from tests.lab.kernel import Peephole
from tests.lab.lab import Lab
from tests.lab.machine import machine
from tests.lab.process import PATIENCE_S, LabError, wait_until
from tests.lab.views import counted

#: Limits that must hold on every reverse proxy, ms.
MEDIAN_MS, P99_MS = 3.0, 15.0

#: The same beside half-open requests: of the median, and of every ban, ms.
BESIDE_MEDIAN_MS, BESIDE_MS = 10.0, 200.0

#: Rest of the poller between two rounds, s.
REST_S = 0.0001


@dataclass(frozen=True, slots=True)
class Latencies:
    of: dict[str, list[float]]  #: reverse proxy -> ms of each ban
    rounds: list[float]  #: the poller's rounds, ms

    def good(self) -> bool:
        """Whether the limits hold on every reverse proxy."""
        return all(statistics.median(ms) < MEDIAN_MS and percentile(ms, 99) < P99_MS for ms in self.of.values())

    def bearable(self) -> bool:
        """Whether the limits beside half-open requests hold on every reverse proxy."""
        return all(statistics.median(ms) < BESIDE_MEDIAN_MS and max(ms) < BESIDE_MS for ms in self.of.values())

    def lines(self) -> list[str]:
        """A line for each reverse proxy, and one for all."""
        everything = [ms for each in self.of.values() for ms in each]
        lines = [_line(name, ms) for name, ms in [*self.of.items(), ("all", everything)]]
        median, p99 = statistics.median(self.rounds), percentile(self.rounds, 99)
        return [*lines, f"resolution of the observer: a round takes {median:.2f} ms (median), {p99:.2f} ms (p99)"]


def measure(lab: Lab, bans: int, network: str = "203.0") -> Latencies:
    """Ban so many addresses of network.0.0/16, one after the other."""
    addresses = [f"{network}.{n // 250}.{n % 250 + 1}" for n in range(bans)]
    found = Latencies({rp.host.name: [] for rp in lab.rps}, [])
    with ExitStack() as stack:
        senders = [stack.enter_context(Sender(rp.host.namespace)) for rp in lab.rps]
        holes = {rp.host.name: stack.enter_context(Peephole(rp.host.namespace)) for rp in lab.rps}
        for address in addresses:
            senders[0].pour((failure(address, f"{address}-{n}") for n in range(4)), per_ms=4)
        for address in addresses:
            wait_until(partial(_counted_to, lab, address, 4), f"four failures of {address} are counted")
        for turn, address in enumerate(addresses):
            time.sleep(random.uniform(0.004, 0.012))
            _time_one(senders[turn % len(senders)], holes, address, found)
    return found


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of them do not exceed."""
    return sorted(values)[max(-(-len(values) * percent // 100) - 1, 0)]


def _time_one(sender: Sender, holes: dict[str, Peephole], address: str, found: Latencies) -> None:
    waiting, datagram = dict(holes), failure(address, f"{address}-4")
    began = time.perf_counter()
    sender.send(datagram)
    now = began
    while waiting:
        before = now
        for name, hole in list(waiting.items()):
            if hole.sees(address):
                found.of[name].append((time.perf_counter() - began) * 1_000)
                del waiting[name]
        time.sleep(REST_S)
        now = time.perf_counter()
        found.rounds.append((now - before) * 1_000)
        if now - began > PATIENCE_S:
            raise LabError(f"{', '.join(waiting)}: {address} is not in the set after {PATIENCE_S:g} s")


def _counted_to(lab: Lab, address: str, count: int) -> bool:
    return counted(lab.redis, address) == count


def _line(name: str, ms: Sequence[float]) -> str:
    figures = f"median {statistics.median(ms):5.2f}   p95 {percentile(ms, 95):5.2f}   p99 {percentile(ms, 99):5.2f}"
    return f"{name:9} {figures}   max {max(ms):5.2f} ms"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a limit does not hold."""
    parser = argparse.ArgumentParser(prog="bench.latency")
    parser.add_argument("--bans", type=int, default=300)
    parser.add_argument("--rps", type=int, default=4)
    options = parser.parse_args(arguments)
    print(machine())
    print(f"method    {options.bans} bans on {options.rps} RPs, datagram of the fifth failure to element in the set\n")
    with Lab(rps=options.rps) as lab:
        found = measure(lab, options.bans)
        with half_open(lab):
            beside = measure(lab, options.bans, network="203.2")
    print("\n".join(found.lines()))
    print(f"\nbeside {HALF_OPEN} half-open requests to the receiver's HTTP side:")
    print("\n".join(beside.lines()))
    good = found.good() and beside.bearable()
    print(f"\nlimits on every RP: median < {MEDIAN_MS:g} ms, p99 < {P99_MS:g} ms; beside half-open requests: median")
    print(f"< {BESIDE_MEDIAN_MS:g} ms, each < {BESIDE_MS:g} ms: {'hold' if good else 'DO NOT HOLD'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
