"""`make bench-ipset`: three ways to speak to the kernel's ipset, side by side in one run (docs/adr/0017).

child       the program ipset(8): one that stays, `ipset -`, for single bans; one of its own for all else
netlink     what the backend iptables does: enforcer/firewall/iptables
pyroute2    the library, if it can be imported; it is no requirement of pinban

Each way has two sets like the enforcer's in one network namespace, and does the same work: text of addresses in and
out, timeouts, acknowledgement of every add. What is measured:

one ban     one address into a set of 10,000, until the kernel has acknowledged it
capacity    how many members both sets have of how many: asked once a second; with 10,000 members
bulk        so many new addresses into an empty set of the right size
read        all members of a set with their seconds left, into a dictionary

The ways take turns in each round, so that what else the host does meets them all.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.metadata import version
from typing import Any, Protocol

from bench.latency import percentile
from enforcer.firewall.iptables import kernel as ip
from enforcer.firewall.iptables.ipset_members import element_of, members_of
from enforcer.firewall.iptables.ipset_size import create, size_of
from shared.addresses import Network
from tests.lab.machine import machine
from tests.netfilter.conftest import inside, namespace

SETS = {4: "bench4", 6: "bench6"}
MAXELEM = 262_144
LEFT_S = 3_600

#: Members that stand while single bans and the capacity are measured.
STANDING = 10_000

_ADD = re.compile(r"^add \S+ (\S+) timeout (\d+)\b", re.MULTILINE)
_ENTRIES = re.compile(r"^Number of entries: (\d+)$", re.MULTILINE)
_MAXELEM = re.compile(r" maxelem (\d+) ")


class Way(Protocol):
    """One way to speak to the kernel."""

    name: str

    def one(self, network: Network) -> None:
        """Put one network in, and know that it is in."""

    def capacity(self) -> Sequence[tuple[int, int]]:
        """Members and maxelem of each set."""

    def bulk(self, networks: Sequence[Network]) -> None:
        """Put many in."""

    def read(self) -> Mapping[Network, int]:
        """All members of the IPv4 set, each with its seconds left."""


class Child:
    """The program ipset."""

    name = "child"

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            ["ipset", "-"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, bufsize=0
        )

    def close(self) -> None:
        self._child.kill()
        self._child.wait()

    def one(self, network: Network) -> None:
        assert self._child.stdin
        assert self._child.stderr
        name = SETS[4]
        self._child.stdin.write(f"add {name} {network} timeout {LEFT_S} -exist\ntest {name} {network}\n".encode())
        answer = b""
        while not answer.endswith(b"\n"):
            answer += os.read(self._child.stderr.fileno(), 65_536)
        if b" is in set " not in answer:
            raise RuntimeError(answer.decode())

    def capacity(self) -> Sequence[tuple[int, int]]:
        told = [_run("ipset", "list", "-t", name) for name in SETS.values()]
        return [(int(_ENTRIES.findall(each)[0]), int(_MAXELEM.findall(each)[0])) for each in told]

    def bulk(self, networks: Sequence[Network]) -> None:
        lines = (f"add {SETS[4]} {network} timeout {LEFT_S} -exist\n" for network in networks)
        _run("ipset", "restore", "-exist", text="".join(lines))

    def read(self) -> Mapping[Network, int]:
        return {Network(text): int(left_s) for text, left_s in _ADD.findall(_run("ipset", "save", SETS[4]))}


class Netlink:
    """What the enforcer does."""

    name = "netlink"

    def __init__(self) -> None:
        self._kernel = ip.IpSet()

    def close(self) -> None:
        self._kernel.close()

    def one(self, network: Network) -> None:
        self._kernel.change(ip.ADD, SETS[4], [element_of(network, LEFT_S)])

    def capacity(self) -> Sequence[tuple[int, int]]:
        with ip.IpSet() as kernel:
            sizes = [size_of(kernel, name, family) for family, name in SETS.items()]
        return [(size.entries, size.maxelem) for size in sizes]

    def bulk(self, networks: Sequence[Network]) -> None:
        self._kernel.change(ip.ADD, SETS[4], (element_of(network, LEFT_S) for network in networks))

    def read(self) -> Mapping[Network, int]:
        return {network: left_ms // 1_000 for network, left_ms in members_of(SETS[4], 4)}


class Pyroute2:
    """The library."""

    name = "pyroute2"

    def __init__(self) -> None:
        self._sets: Any = import_module("pyroute2.ipset").IPSet()

    def close(self) -> None:
        self._sets.close()

    def one(self, network: Network) -> None:
        self._sets.add(SETS[4], network, etype="net", timeout=LEFT_S, exclusive=False)

    def capacity(self) -> Sequence[tuple[int, int]]:
        found = []
        for name in SETS.values():
            [told] = self._sets.list(name, flags=4)  # IPSET_FLAG_LIST_HEADER
            about = told.get_attr("IPSET_ATTR_DATA")
            found.append((about.get_attr("IPSET_ATTR_ELEMENTS"), about.get_attr("IPSET_ATTR_MAXELEM")))
        return found

    def bulk(self, networks: Sequence[Network]) -> None:
        for network in networks:
            self.one(network)

    def read(self) -> Mapping[Network, int]:
        found = {}
        for told in self._sets.list(SETS[4]):
            for entry in told.get_attr("IPSET_ATTR_ADT").get_attrs("IPSET_ATTR_DATA"):
                address = entry.get_attr("IPSET_ATTR_IP_FROM").get_attr("IPSET_ATTR_IPADDR_IPV4")
                length = entry.get_attr("IPSET_ATTR_CIDR")
                text = address if length == 32 else f"{address}/{length}"
                found[Network(text)] = int(entry.get_attr("IPSET_ATTR_TIMEOUT"))
        return found


def _run(*command: str, text: str = "") -> str:
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def _networks(number: int, block: int = 10) -> list[Network]:
    return [Network(f"{block}.{i >> 16}.{i >> 8 & 255}.{i & 255}") for i in range(number)]


@contextmanager
def _sets(members: Sequence[Network] = ()) -> Iterator[None]:
    """The two sets, the first with these members."""
    with ip.IpSet() as kernel:
        for family, name in SETS.items():
            create(kernel, name, family, MAXELEM)
        kernel.change(ip.ADD, SETS[4], (element_of(network, LEFT_S) for network in members))
        try:
            yield
        finally:
            for name in SETS.values():
                kernel.destroy(name)


def _timed(work: Callable[[], object]) -> float:
    """How long it took, ms."""
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1_000


def single(ways: Sequence[Way], rounds: int) -> None:
    """One ban, and the capacity."""
    took: dict[str, dict[str, list[float]]] = {"one ban": {}, "capacity": {}}
    with _sets(_networks(STANDING)):
        for number, network in enumerate(_networks(rounds * len(ways), block=172)):
            way = ways[number % len(ways)]
            took["one ban"].setdefault(way.name, []).append(_timed(lambda way=way, n=network: way.one(n)))  # type: ignore[misc]
        for way in ways:
            if way.capacity() != [(STANDING + rounds * len(ways), MAXELEM), (0, MAXELEM)]:
                raise RuntimeError(f"{way.name} tells of {way.capacity()}")
        for number in range(rounds // 4 * len(ways)):
            way = ways[number % len(ways)]
            took["capacity"].setdefault(way.name, []).append(_timed(way.capacity))
    for what, of in took.items():
        for name, ms in of.items():
            print(
                f"{what:14} {name:9} median {statistics.median(ms):8.3f}   p99 {percentile(ms, 99):8.3f}"
                f"   max {max(ms):8.3f} ms   ({len(ms)} times)"
            )
    print(flush=True)


def many(ways: Sequence[Way], number: int, rounds: int) -> None:
    """So many at once, and reading them."""
    networks = _networks(number)
    took: dict[tuple[str, str], list[float]] = {}
    for turn in range(rounds):
        for way in ways:
            if turn and way.name == Pyroute2.name:
                continue  # one turn takes it minutes
            with _sets():
                took.setdefault(("bulk", way.name), []).append(_timed(lambda way=way: way.bulk(networks)))  # type: ignore[misc]
                began = time.perf_counter()
                told = way.read()
                took.setdefault(("read", way.name), []).append((time.perf_counter() - began) * 1_000)
                if told.keys() != set(networks):
                    raise RuntimeError(f"{way.name} lost members")
    for what in ("bulk", "read"):
        for way in ways:
            ms = took[what, way.name]
            print(
                f"{what} {number:9,} {way.name:9} median {statistics.median(ms):8.1f}   min {min(ms):8.1f}"
                f"   max {max(ms):8.1f} ms   ({len(ms)} times)"
            )
    print(flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; there is no limit here, the figures are for a decision."""
    parser = argparse.ArgumentParser(prog="bench.ipset")
    parser.add_argument("--rounds", type=int, default=2_000, help="single bans of each way")
    parser.add_argument("--bulks", type=int, default=5, help="bulks of each way and size")
    options = parser.parse_args(arguments)
    print(machine())
    print(f"          {_run('ipset', '--version').splitlines()[0]}, pyroute2 {_pyroute2() or 'is not installed'}")
    print("method    three ways take turns on the same sets; see bench/ipset.py\n")
    with ExitStack() as stack:
        stack.enter_context(inside(stack.enter_context(namespace("bench"))))
        ways: list[Child | Netlink | Pyroute2] = [Child(), Netlink(), *([Pyroute2()] if _pyroute2() else [])]
        for way in ways:
            stack.callback(way.close)
        single(ways, options.rounds)
        for number in (10_000, 100_000):
            many(ways, number, options.bulks)
    return 0


def _pyroute2() -> str:
    try:
        return version("pyroute2")
    except ModuleNotFoundError:
        return ""


if __name__ == "__main__":
    sys.exit(main())
