"""Clients and kernels of a running site, looked at many times a second while its containers are replaced.

A client is a thread in the network namespace of a container; a look at a kernel is one in a proxy's.
"""

from __future__ import annotations

import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.lab.clients import guess
from tests.lab.netns import Namespace

#: How long a proxy may take to say anything to somebody who is banned, s; it should say nothing at all.
LISTEN_S = 0.1

#: Between two looks at a kernel, s.
LOOK_S = 0.05


def namespace_of(pid: int) -> Namespace:
    """The network namespace that a process is in; only for `call` and `start`."""
    return Namespace(f"/proc/{pid}/ns/net")


def run_in(pid: int, *argv: str, check: bool = True) -> str:
    """What a command of the host prints in the network namespace of a process."""
    return subprocess.run(["nsenter", "-t", str(pid), "-n", *argv], capture_output=True, text=True, check=check).stdout


def dropped(pid: int) -> set[str]:
    """The addresses that the kernel of a namespace drops, by either backend: none while anything of it is missing."""
    return dropped_by_nftables(pid) | dropped_by_iptables(pid)


def dropped_by_nftables(pid: int) -> set[str]:
    table = run_in(pid, "nft", "list", "table", "inet", "pinban", check=False)
    for part in (
        "hook input",
        "hook output",
        "tcp dport 80 jump from_member",
        "tcp sport 80 jump to_member",
        "ip saddr @v4_32 goto refuse",
        'counter name "from_members" drop',
        'ip daddr @v4_32 counter name "to_members" drop',
    ):
        if part not in table:
            return set()
    elements = re.search(r"set v4_32 \{[^}]*elements = \{([^}]*)\}", table)
    return set(re.findall(r"([0-9.]+) timeout", elements[1])) if elements else set()


def dropped_by_iptables(pid: int) -> set[str]:
    rules = run_in(pid, "iptables-legacy-save", "-t", "filter", check=False)
    if not {"-A INPUT -j pinban", "-A OUTPUT -j pinban"} <= set(rules.splitlines()):
        return set()
    if len(re.findall(r"^-A pinban .*--match-set pinban4 (?:src|dst) .*-j DROP$", rules, re.MULTILINE)) != 2:
        return set()
    return set(re.findall(r"^add pinban4 (\S+)", run_in(pid, "ipset", "save", "pinban4", check=False), re.MULTILINE))


@dataclass(slots=True)
class Seen:
    """What was seen that should not be; times in s since the watch began."""

    knocks: int = 0
    looks: int = 0
    answered: list[tuple[float, str]] = field(default_factory=list)  #: the banned client got an HTTP answer
    refused: list[tuple[float, str]] = field(default_factory=list)  #: the kernel itself answered it: no rule
    unguarded: list[tuple[float, str]] = field(default_factory=list)  #: the kernel would not have dropped it


class Watch:
    """From start to stop: no proxy answers a banned client, and the kernels hold its ban."""

    def __init__(self, client: int, address: str, proxies: dict[str, str], kernels: dict[str, int]) -> None:
        """Process ids of the client and of who holds each proxy's namespace; the addresses of the proxies by name."""
        self.seen = Seen()
        self._began = time.monotonic()
        self._stopped = threading.Event()
        self._address = address
        self._futures = [namespace_of(client).start(self._knock(name, proxy)) for name, proxy in proxies.items()]
        self._futures += [namespace_of(pid).start(self._look(name, pid)) for name, pid in kernels.items()]

    def stop(self) -> Seen:
        self._stopped.set()
        for future in self._futures:
            future.result()
        return self.seen

    def _at(self, name: str) -> tuple[float, str]:
        return round(time.monotonic() - self._began, 2), name

    def _knock(self, name: str, proxy: str) -> Callable[[], None]:
        def knock() -> None:
            while not self._stopped.is_set():
                try:
                    socket.create_connection((proxy, 80), LISTEN_S).close()
                except ConnectionRefusedError:
                    self.seen.refused.append(self._at(name))
                except OSError:
                    pass
                else:
                    if guess(proxy, "000000", timeout=LISTEN_S * 5):
                        self.seen.answered.append(self._at(name))
                self.seen.knocks += 1
                self._stopped.wait(LISTEN_S / 2)

        return knock

    def _look(self, name: str, pid: int) -> Callable[[], None]:
        def look() -> None:
            while not self._stopped.is_set():
                if self._address not in dropped(pid):
                    self.seen.unguarded.append(self._at(name))
                self.seen.looks += 1
                self._stopped.wait(LOOK_S)

        return look
