"""Speaking to ipset(8): a child that stays and answers at once, or one for each command. Knows no set by name."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from shared.errors import FirewallError
from shared.host import be_quick

#: How long the child that stays may take to answer, s.
ANSWER_S = 1.0

#: How long an ipset of its own may take once it has all that it needs, s.
RUN_S = 30.0

#: How long one that is fed or read may stand still, s.
STALLED_S = 10.0

#: Read and written at once: what a pipe holds, bytes. In 2 ms so much is understood, and others may have the GIL.
_PIECE = 65_536

_T = TypeVar("_T")

_ANSWER = re.compile(r" is (in|NOT in) set \S+\.$")

_REMEDIES = {
    "Operation not permitted": "run as root or with CAP_NET_ADMIN",
    "Cannot open session": "load the kernel module ip_set (modprobe ip_set)",
    "is not supported": "load the kernel module ip_set_hash_net (modprobe ip_set_hash_net)",
    "does not exist": "the next install makes it",
    "is full": "the set is full; unban what need not be banned",
    "in use by a kernel component": "remove the foreign rule that refers to it",
}


class Conversation:
    """The child that stays, `ipset -`: started at the first question, and again whenever it failed."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, lines: str, test: str, *, expect_in: bool) -> bool:
        """Whether it carried out all lines; if in doubt it is ended and the answer is no.

        `test` is the closing question, and `expect_in` the answer that all lines lead to.
        """
        try:
            if self._child is None:
                self._child = subprocess.Popen(
                    [_ipset(), "-"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,  # prompts
                    stderr=subprocess.PIPE,
                    bufsize=0,
                )
                be_quick(self._child.pid)
            assert self._child.stdin is not None
            self._child.stdin.write((lines + test).encode())
            answer = _ANSWER.search(self._read_line())
            if answer and (answer[1] == "in" or not expect_in):
                return True
        except (OSError, ValueError):
            pass
        self.close()
        return False

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            assert self._child.stdin is not None
            assert self._child.stderr is not None
            self._child.kill()  # it owes us nothing: every answer was waited for
            self._child.wait()
            self._child.stdin.close()
            self._child.stderr.close()
            self._child = None

    def _read_line(self) -> str:
        """The child's first line; empty if none came in time."""
        assert self._child is not None
        assert self._child.stderr is not None
        poll = select.poll()
        poll.register(self._child.stderr, select.POLLIN)
        deadline = time.monotonic() + ANSWER_S
        got = b""
        while b"\n" not in got and (left_s := deadline - time.monotonic()) > 0:
            if poll.poll(left_s * 1000):
                piece = os.read(self._child.stderr.fileno(), 65536)
                if not piece:
                    return ""
                got += piece
        return got.decode(errors="replace").partition("\n")[0]


class FullError(FirewallError):
    """A set was too full for what was to be added; all before it is added."""


def run(*args: str, text: str = "") -> str:
    """What an ipset of its own prints; FirewallError if it fails."""
    try:
        done = subprocess.run([_ipset(), *args], input=text, capture_output=True, text=True, timeout=RUN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _unfinished(args, error) from error
    if done.returncode != 0:
        raise _failed(args, done.stderr, done.returncode)
    return done.stdout


def read(*args: str) -> Iterator[str]:
    """What an ipset of its own prints, whole lines at a time, as it prints them; FirewallError if it fails."""
    with _child(args, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        os.set_blocking(child.stdout.fileno(), False)
        begun = b""
        while piece := _await(args, child.stdout.fileno(), select.POLLIN, lambda fd: os.read(fd, _PIECE)):
            lines, newline, rest = piece.rpartition(b"\n")
            if newline:
                yield (begun + lines + newline).decode(errors="replace")
                begun = rest
            else:
                begun += piece


def feed(pieces: Iterable[str], *args: str) -> None:
    """Have an ipset of its own carry out commands, which are made while it works; FirewallError if one fails."""
    with _child(args, stdin=subprocess.PIPE) as child:
        assert child.stdin is not None
        os.set_blocking(child.stdin.fileno(), False)
        try:
            for text in pieces:
                left = memoryview(text.encode())
                while left:
                    left = left[_await(args, child.stdin.fileno(), select.POLLOUT, partial(_write, left)) :]
            child.stdin.close()
        except BrokenPipeError:
            pass  # it ended early, and its last words say why


@contextmanager
def _child(
    args: Sequence[str], *, stdin: int = subprocess.DEVNULL, stdout: int = subprocess.DEVNULL
) -> Iterator[subprocess.Popen[bytes]]:
    """An ipset of its own, of which one pipe is used at a time; FirewallError unless it ends well."""
    with open(os.memfd_create("ipset"), "w+b") as words:  # no folder for temporary files needs to be writable
        try:
            child = subprocess.Popen([_ipset(), *args], bufsize=0, stdin=stdin, stdout=stdout, stderr=words)
        except OSError as error:
            raise _unfinished(args, error) from error
        with child:
            try:
                yield child
                status = child.wait(RUN_S)
            except subprocess.TimeoutExpired as error:
                raise _unfinished(args, error) from error
            finally:
                child.kill()
        if status != 0:
            words.seek(0)
            raise _failed(args, words.read(4096).decode(errors="replace"), status)


def _await(args: Sequence[str], fd: int, event: int, do: Callable[[int], _T]) -> _T:
    """Do it as soon as the pipe is ready; FirewallError if it is not for too long."""
    poll = select.poll()
    poll.register(fd, event)
    if not poll.poll(STALLED_S * 1000):
        raise _unfinished(args, f"it stands still for {STALLED_S:.0f} s")
    return do(fd)


def _write(left: memoryview, fd: int) -> int:
    return os.write(fd, left[:_PIECE])


def _unfinished(args: Sequence[str], why: object) -> FirewallError:
    return FirewallError(f"ipset {args[0]} did not finish ({why}); look at the host's load and dmesg")


def _failed(args: Sequence[str], words: str, status: int) -> FirewallError:
    words = " ".join(words.split()) or f"status {status}"
    remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in words), "see ipset(8)")
    kind = FullError if "is full" in words else FirewallError
    return kind(f"ipset {' '.join(args)}: {words}; {remedy}")


def _ipset() -> str:
    """Where ipset is: services and containers often have a PATH without sbin."""
    found = shutil.which("ipset", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise FirewallError("ipset is not found; install the package ipset")
    return found
