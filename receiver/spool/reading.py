"""Which threads read the sockets now: each holds a lock in the spool that the kernel takes from it when it dies.

A robust mutex (pthread_mutexattr_setrobust(3)), because it is free as soon as the thread is dead: 0.3 ms after SIGKILL
on a busy host. A lock of fcntl(2) is free when the last thread of the process is gone, 50 to 140 ms after SIGKILL; a
unix socket may hold ten datagrams only.
"""

from __future__ import annotations

import ctypes
import errno
import os

#: Room for a pthread_mutex_t and for a pthread_mutexattr_t on every machine, bytes; a mutex lies on a multiple of 8.
MUTEX_BYTES = 64

#: pthread.h of glibc.
_PROCESS_SHARED, _ROBUST = 1, 1

_libc = ctypes.CDLL(None)


class Reading:
    """The lock of one slot, in memory that all processes share. Made before they are."""

    def __init__(self, memory: memoryview) -> None:
        self._mutex = (ctypes.c_char * MUTEX_BYTES).from_buffer(memory)
        attributes = ctypes.create_string_buffer(MUTEX_BYTES)
        _checked(_libc.pthread_mutexattr_init(attributes))
        _checked(_libc.pthread_mutexattr_setpshared(attributes, _PROCESS_SHARED))
        _checked(_libc.pthread_mutexattr_setrobust(attributes, _ROBUST))
        _checked(_libc.pthread_mutex_init(self._mutex, attributes))

    def begin(self) -> bool:
        """The calling thread reads from now on; False when another holds the lock: try again."""
        return self._got(_libc.pthread_mutex_trylock(self._mutex))

    def end(self) -> None:
        """It reads no more."""
        _checked(_libc.pthread_mutex_unlock(self._mutex))

    def goes_on(self) -> bool:
        """Whether a thread holds it that lives."""
        if not self.begin():
            return True
        self.end()
        return False

    def await_end(self) -> None:
        """Return when no thread that lives holds it."""
        if self._got(_libc.pthread_mutex_lock(self._mutex)):
            self.end()

    def _got(self, result: int) -> bool:
        if result == errno.EOWNERDEAD:
            result = _libc.pthread_mutex_consistent(self._mutex)
        if result == errno.EBUSY:
            return False
        _checked(result)
        return True


def _checked(result: int) -> None:
    if result:
        raise OSError(result, os.strerror(result))
