"""Speaking to ipset(8): a child that stays and answers at once, or one for each command. Knows no set by name."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time

from shared.errors import FirewallError
from shared.urgency import be_quick

#: How long the child that stays may take to answer, s.
ANSWER_S = 1.0

#: How long an ipset of its own may take; a full set of 262,144 loads in 2 s on a small host, s.
RUN_S = 30.0

_ANSWER = re.compile(r" is (in|NOT in) set \S+\.$")

_REMEDIES = {
    "Operation not permitted": "run as root or with CAP_NET_ADMIN",
    "Cannot open session": "load the kernel module ip_set (modprobe ip_set)",
    "is not supported": "load the kernel module ip_set_hash_net (modprobe ip_set_hash_net)",
    "does not exist": "the next install makes it",
    "is full": "the set has no room left; unban what need not be banned",
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


def run(*args: str, text: str = "") -> str:
    """What an ipset of its own prints; FirewallError if it fails."""
    try:
        done = subprocess.run([_ipset(), *args], input=text, capture_output=True, text=True, timeout=RUN_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"ipset {args[0]} did not finish ({error}); look at the host's load and dmesg") from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split()) or f"status {done.returncode}"
        remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in words), "see ipset(8)")
        raise FirewallError(f"ipset {' '.join(args)}: {words}; {remedy}")
    return done.stdout


def _ipset() -> str:
    """Where ipset is: services and containers often have a PATH without sbin."""
    found = shutil.which("ipset", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise FirewallError("ipset is not found; install the package ipset")
    return found
