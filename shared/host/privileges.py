"""Gives up every right of root that a daemon does not need. For the main thread, before it starts others.

By prctl(2) and capset(2) through ctypes: Python's library has neither, and the package that has them is one more
dependency for forty lines. What a daemon starts afterwards inherits no more than what is left here.
"""

from __future__ import annotations

import ctypes
import logging
import os
import resource
from collections.abc import Collection
from pathlib import Path

from shared.host.realtime import PRIORITY

#: linux/capability.h
CAP_NET_ADMIN, CAP_NET_RAW, _CAP_SYS_NICE = 12, 13, 23
_VERSION_3 = 0x20080522

#: linux/prctl.h
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 24, 38

_LAST_CAP = Path("/proc/sys/kernel/cap_last_cap")

_log = logging.getLogger("pinban")

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def keep_only(capabilities: Collection[int]) -> None:
    """Of the capabilities that we have, keep only these, for us and for all that we start.

    The right to real-time priority stays: as a limit (RLIMIT_RTPRIO), or as CAP_SYS_NICE where that cannot be set. A
    kernel that refuses is a warning: a daemon with too many rights is better than none.
    """
    try:
        _keep_only(capabilities if _limit_allows() else {*capabilities, _CAP_SYS_NICE})
    except OSError as error:
        _log.warning("keeps more rights than it needs: %s; start it as a user of its own", error)


def _limit_allows() -> bool:
    """Whether threads may become real-time without a capability from now on; raising the limit takes one itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_RTPRIO)
    if resource.RLIM_INFINITY not in (soft, hard):
        try:
            resource.setrlimit(resource.RLIMIT_RTPRIO, (max(soft, PRIORITY), max(hard, PRIORITY)))
        except (ValueError, OSError):
            return False
    return True


def _keep_only(capabilities: Collection[int]) -> None:
    for number in range(int(_LAST_CAP.read_text()) + 1):
        if number not in capabilities:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # refused without CAP_SETPCAP: then we are not root
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    _checked(_libc.capget(ctypes.byref(header), data))
    for word, wanted in enumerate(data):
        mask = sum(1 << number - 32 * word for number in capabilities if number // 32 == word)
        wanted.permitted &= mask
        wanted.effective = wanted.permitted
        wanted.inheritable &= mask
    _checked(_libc.capset(ctypes.byref(header), data))
    _checked(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _checked(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
