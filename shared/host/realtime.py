"""Real-time priority: the threads between a guess and its ban must not wait for a processor on a busy host."""

from __future__ import annotations

import contextlib
import os

#: Above every ordinary process and below everything else that is real-time, sched(7).
PRIORITY = 1


def be_quick() -> None:
    """Give the calling thread real-time priority if that is allowed (CAP_SYS_NICE or RLIMIT_RTPRIO).

    For threads that wait nearly all of the time and then work for microseconds: while they queue behind nginx the
    attacker gets more answers (bench/attack.py). What they start has ordinary priority again, and the kernel always
    leaves 5 % of each second to the others (sched_rt_runtime_us). When it is refused, all works as well, a little
    later on a busy host.
    """
    _schedule(os.SCHED_RR | os.SCHED_RESET_ON_FORK, PRIORITY)


def be_ordinary() -> None:
    """Give the calling thread ordinary priority again, for work that takes more than a moment."""
    _schedule(os.SCHED_OTHER, 0)


def _schedule(policy: int, priority: int) -> None:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, policy, os.sched_param(priority))
