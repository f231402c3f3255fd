"""A process that keeps unix sockets read while no worker reads: during a reload, or when all workers were killed.

A unix socket may hold ten datagrams (net.unix.max_dgram_qlen), and nginx drops what does not fit. The standby moves
them into receive buffers of free slots, where the next worker finds them as it finds what a dead worker left. It sorts
nothing, so it needs no settings and no Redis. UDP sockets need none of it: their buffer holds thousands of datagrams.
"""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import select
import signal
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path
from socket import AF_UNIX, socket

from receiver.spool import Slot, Spool
from shared.host import be_quick

#: What ps(1) calls the process.
NAME = "pinban-standby"

#: How soon the standby notices that a worker reads, or that a slot is free, s.
_GLANCE_S = 0.02

#: How long a datagram may lie there while workers begin to read, s; and for how long they count as beginners, s. On a
#: busy host the start of a worker's other threads can keep its reading thread from the interpreter for 20 ms and more.
_HELP_AFTER_S, _BEGINNERS_S = 0.003, 3.0

#: How long the standby fills a slot before a worker may have it, s: a few datagrams each must not use up all slots.
_HAND_OVER_S = 0.05

#: How long after one standby began the next may, s: one that cannot live must not keep the arbiter busy.
_START_EVERY_S = 0.5

#: prctl(2)
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15

_log = logging.getLogger("pinban.receiver")


class Standby:
    """In the arbiter: has one standby run, if there is a unix socket."""

    def __init__(self, sockets: Sequence[socket], spool: Spool) -> None:
        self._sockets = [each for each in sockets if each.family == AF_UNIX]
        self._spool = spool
        self._pid = 0
        self._process = -1  #: pidfd_open(2), which becomes readable when the process ends
        self._began = float("-inf")

    def ensure(self) -> None:
        """Start a standby unless one lives. The arbiter reaps those that ended."""
        now = time.monotonic()
        if not self._sockets or self._lives() or now - self._began < _START_EVERY_S:
            return
        if self._pid:
            _log.warning("the standby ended; another one starts")
            os.close(self._process)
        self._began = now
        arbiter = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            _live(arbiter, self._sockets, self._spool)
        self._process = os.pidfd_open(self._pid)

    def end(self) -> None:
        """End it: the receiver stops, and what is read from now on nobody would count."""
        if self._lives():
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
        self._sockets = []

    def _lives(self) -> bool:
        return self._process >= 0 and not select.select([self._process], [], [], 0)[0]


def _live(arbiter: int, sockets: Sequence[socket], spool: Spool) -> None:
    """The standby, as long as the arbiter lives. Does not return."""
    try:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            with suppress(OSError):
                signal.signal(number, signal.SIG_IGN)  # the arbiter says when to end
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        libc.prctl(_PR_SET_NAME, NAME.encode())
        if os.getppid() == arbiter:
            _close_all_but({0, 1, 2, spool.file, *(each.fileno() for each in sockets)})
            gc.freeze()  # what the arbiter has made stays in memory that both share
            be_quick()
            while True:
                spool.await_unread()
                keep_read(sockets, spool)
    except BaseException:  # noqa: BLE001  the arbiter's code must not run on in this process
        _log.exception("the standby fails")
    finally:
        os._exit(1)


def keep_read(sockets: Sequence[socket], spool: Spool) -> None:
    """Move datagrams into free slots until a worker reads; then those that it leaves lying, until it is settled."""
    slot: Slot | None = None
    settled_at = hand_over_at = float("inf")
    with select.epoll() as poll:
        for source in sockets:
            poll.register(source, select.EPOLLIN)
        while time.monotonic() < settled_at:
            waiting = bool(poll.poll(_GLANCE_S))
            is_read = spool.is_read()
            now = time.monotonic()
            settled_at = min(settled_at, now + _BEGINNERS_S) if is_read else float("inf")
            if is_read and waiting:
                time.sleep(_HELP_AFTER_S)
                waiting = bool(poll.poll(0))
            if waiting:
                slot = _move(sockets, slot, spool)
            hand_over_at = min(hand_over_at, now + _HAND_OVER_S) if is_read and slot else float("inf")
            if slot is not None and now >= hand_over_at:
                spool.release(slot)
                slot = None
    if slot is not None:
        spool.release(slot)


def _move(sockets: Sequence[socket], slot: Slot | None, spool: Spool) -> Slot | None:
    """Empty the sockets into this slot, and into others when it is full; returns the one that has place, if any."""
    for source in sockets:
        while True:
            slot = slot or spool.claim_empty()
            if slot is None:  # all are full
                time.sleep(_GLANCE_S)
                return None
            if not slot.receive_more(source):
                break
            if slot.full:
                spool.release(slot)
                slot = None
    return slot


def _close_all_but(kept: Collection[int]) -> None:
    """Sockets of the HTTP side above all: a port that the arbiter closes at a reload must be closed."""
    for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
        if descriptor not in kept:
            with suppress(OSError):
                os.close(descriptor)
