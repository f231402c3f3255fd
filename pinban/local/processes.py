"""Processes that end when we end: started in a session of their own, stopped in order, reaped always."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence

#: prctl(2): the signal that the kernel sends a process when its parent dies.
_PR_SET_PDEATHSIG = 1

_prctl = ctypes.CDLL(None).prctl


def start(argv: Sequence[str], environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a process that shares our standard error. Ctrl-C does not reach it; when we die it gets SIGTERM.

    For a process with one thread: Python code runs between fork and exec.
    """
    return subprocess.Popen(
        argv,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509
    )


def stop(process: subprocess.Popen[bytes], within_s: float) -> None:
    """SIGTERM, then SIGKILL if it takes longer; returns when it is reaped."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
