"""One child process with its log: started, waited for, ended by its id and always reaped. Knows no networks."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

#: Where `python -m tests.lab...` finds the package.
ROOT = Path(__file__).resolve().parents[2]

#: When to give up waiting for something, s: many times what anything takes on a host that is busy with something else.
#: A wait ends with its event, so that only a defect ever needs so long.
PATIENCE_S = 60.0

#: Between two looks at something that has not happened yet, s.
POLL_S = 0.01

#: How much of a log is shown when something failed, characters.
TAIL = 3_000


class LabError(Exception):
    """The lab itself could not do its work; carries the log that says why."""


class Place(Protocol):
    """Where a process runs: a network namespace."""

    def popen(self, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]: ...


def spawn(argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a child in a session of its own: Ctrl-C reaches only us, and we end the children in order."""
    with log.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
        )


def wait_until(probe: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Return as soon as probe() is true; LabError after the given seconds. The last look begins when they are over."""
    deadline = time.monotonic() + seconds
    while True:
        last = time.monotonic() >= deadline
        if probe():
            return
        if last:
            raise LabError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_S)


def lasts(seconds: float, since: float) -> None:
    """Let a fault last: return so many seconds after `since` of the monotonic clock."""
    time.sleep(max(since + seconds - time.monotonic(), 0))


class Process:
    """A program that can be started again under the same name; its output is appended to directory/name.log."""

    def __init__(self, name: str, argv: Sequence[str], directory: Path, place: Place | None = None) -> None:
        self.name = name
        self.argv = list(argv)
        self.log = directory / f"{name}.log"
        self._place = place
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int:
        if self._child is None:
            raise LabError(f"{self.name} is not started")
        return self._child.pid

    def start(self) -> None:
        if self.running:
            raise LabError(f"{self.name} runs already")
        self._child = self._place.popen(self.argv, self.log) if self._place else spawn(self.argv, self.log)

    def await_ready(self, probe: Callable[[], bool], seconds: float = PATIENCE_S) -> None:
        """Wait for probe(); LabError with the end of the log if the process died or took too long."""

        def ready() -> bool:
            if not self.running:
                raise LabError(f"{self.name} ended by itself")
            return probe()

        try:
            wait_until(ready, f"{self.name} is ready", seconds)
        except LabError as error:
            raise LabError(f"{error}\n{self.tail()}") from error

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; none is sent once the process has been reaped."""
        if self._child is not None:
            self._child.send_signal(number)

    def stop(self, seconds: float = PATIENCE_S) -> int:
        """SIGTERM, SIGKILL if that was not enough; the exit code, negative for a signal. Idempotent."""
        if self._child is None:
            return 0
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, as a crash would."""
        if self._child is None:
            return 0
        self.signal(signal.SIGKILL)
        return self._child.wait()

    def tail(self) -> str:
        """The end of the log, under the name of the process."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return f"--- {self.name}\n{text[-TAIL:].rstrip()}"
