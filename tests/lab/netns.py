"""Network namespaces: made, entered, removed. Knows no addresses and nothing of pinban."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tests.lab.process import LabError, spawn, wait_until

T = TypeVar("T")

#: Where iproute2 keeps the names (ip-netns(8)).
NAMES = Path("/run/netns")

#: pinban-PID-SERIAL-ROLE: the process that made it, which lab of that process, what it is for.
OURS = re.compile(r"pinban-(\d+)-\d+-[a-z]+\d*")

#: setns(2): the file descriptor must be of a network namespace.
CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_serials = itertools.count(1)


def unique_prefix() -> str:
    """A prefix for the names of one lab; the process id in it tells others whether the owner lives."""
    return f"pinban-{os.getpid()}-{next(_serials)}"


def ip(*argv: str, batch: Sequence[str] = ()) -> str:
    """Run ip(8), if given with commands on its input; LabError with its message on failure."""
    command = ["ip", *argv, *(["-batch", "-"] if batch else [])]
    done = subprocess.run(command, input="\n".join(batch), capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Namespace:
    """A network namespace with its loopback up and forwarding off."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create(self) -> None:
        ip("netns", "add", self.name)
        ip("-n", self.name, "link", "set", "lo", "up")
        self.call(_forward_nothing)

    def remove(self) -> list[int]:
        """End what still runs in it and remove it; returns the ids of the processes that had to be killed."""
        if not (NAMES / self.name).exists():
            return []
        strays = self.pids()
        for pid in strays:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.pids(), f"{self.name} is empty")
        ip("netns", "delete", self.name)
        return strays

    def pids(self) -> list[int]:
        """The processes in it; threads that only visit by `call` are not among them."""
        return [int(pid) for pid in ip("netns", "pids", self.name).split()]

    def configure(self, *batch: str) -> None:
        """Run ip(8) commands in it, as `addr add 198.51.100.67/24 dev outside`."""
        ip("-n", self.name, batch=batch)

    def run(self, argv: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end; CalledProcessError if it fails and check is set."""
        return subprocess.run(self._inside(argv), capture_output=True, text=True, check=check)

    def popen(self, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        """Start a command in it. `ip netns exec` becomes the command, so the id is the command's own."""
        return spawn(self._inside(argv), log)

    def start(self, function: Callable[[], T]) -> Future[T]:
        """Run a function in a new thread inside: the sockets that it opens stay in this namespace."""
        thread = ThreadPoolExecutor(1, thread_name_prefix=self.name)
        future = thread.submit(self._visit, function)
        thread.shutdown(wait=False)
        return future

    def call(self, function: Callable[[], T]) -> T:
        """The same, and wait for the result."""
        return self.start(function).result()

    def _inside(self, argv: Sequence[str]) -> list[str]:
        return ["ip", "netns", "exec", self.name, *argv]

    def _visit(self, function: Callable[[], T]) -> T:
        with (NAMES / self.name).open("rb") as file:
            if _libc.setns(file.fileno(), CLONE_NEWNET):
                raise LabError(f"setns {self.name}: {os.strerror(ctypes.get_errno())}")
        return function()


def sweep() -> list[str]:
    """Remove what labs of dead processes left behind; returns the names."""
    names = sorted(path.name for path in NAMES.iterdir()) if NAMES.exists() else []
    dead = [name for name in names if (ours := OURS.fullmatch(name)) and not _alive(int(ours[1]))]
    for name in dead:
        with contextlib.suppress(LabError):  # another lab may sweep at the same moment
            Namespace(name).remove()
    return dead


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _forward_nothing() -> None:
    """New namespaces inherit forwarding from the host (net.core.devconf_inherit_init_net)."""
    for family in ("ipv4/conf/all/forwarding", "ipv6/conf/all/forwarding"):
        Path("/proc/sys/net", family).write_text("0")
