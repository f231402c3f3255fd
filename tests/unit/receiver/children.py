"""Children that run a function of the test and end when it does, or when they are killed. No assertions."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

#: prctl(2): a signal for us when the thread that forked us ends.
PR_SET_PDEATHSIG = 1


class Child:
    """A fork of this process; reaped by `end` or `kill`."""

    def __init__(self, body: Callable[[Child], None]) -> None:
        self._told, self._tell = os.pipe()  #: child to parent
        self._heard, self._say = os.pipe()  #: parent to child
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            try:
                ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a test that failed does not end us
                body(self)
                status = 0
            except BaseException:  # noqa: BLE001  the parent sees the status, a person the trace
                traceback.print_exc()
            finally:
                os._exit(status)

    def tell(self) -> None:
        """In the child: let the parent's `wait_told` return."""
        os.write(self._tell, b"x")

    def wait_told(self) -> None:
        """In the parent: until the child tells."""
        assert os.read(self._told, 1) == b"x"

    def pause(self) -> None:
        """In the child: wait for the parent's `go_on`, or for death."""
        os.read(self._heard, 1)

    def go_on(self) -> None:
        os.write(self._say, b"x")

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.end() == -signal.SIGKILL

    def end(self) -> int:
        """Wait for the end; the exit code, negative for a signal."""
        _, status = os.waitpid(self.pid, 0)
        for end in (self._told, self._tell, self._heard, self._say):
            os.close(end)
        return os.waitstatus_to_exitcode(status)


def killed_at(line: int, files: tuple[str, ...], body: Callable[[], None]) -> bool:
    """Run the body in a child that is killed as it comes to the line of this number, counted as they are executed in
    these files; whether it came so far. The body must not fail by itself.
    """
    left = line

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in files:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    def traced(_: Child) -> None:
        sys.settrace(trace)
        body()

    code = Child(traced).end()
    assert code in {0, -signal.SIGKILL}
    return code != 0


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, if we had them."""
    was = os.geteuid()
    if was == 0:
        os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(was)
