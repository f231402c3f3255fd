"""Being quick on a busy host: the threads that stand between a guess and its ban do not queue for a processor."""

from __future__ import annotations

import contextlib
import os

#: Above every ordinary process and below everything else that is real-time, sched(7).
PRIORITY = 1


def be_quick() -> None:
    """Give the calling thread real-time priority if that is allowed (CAP_SYS_NICE or RLIMIT_RTPRIO).

    For threads that wait nearly all of the time and then work for microseconds: every guess that is answered while
    they queue behind nginx is one that the attacker keeps (bench/attack.py). What they start is ordinary again, and
    the kernel leaves the others 5 % of each second whatever happens (sched_rt_runtime_us). Refused, all works as
    well, a little later on a busy host.
    """
    _schedule(os.SCHED_RR | os.SCHED_RESET_ON_FORK, PRIORITY)


def be_ordinary() -> None:
    """Give the calling thread the priority of any other again: it has work for more than a moment."""
    _schedule(os.SCHED_OTHER, 0)


def _schedule(policy: int, priority: int) -> None:
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, policy, os.sched_param(priority))
