"""Receives many datagrams with one system call, into memory where another worker can find them. No meaning, no policy.

recvmmsg(2) writes data, sender, flags and length into memory that all workers share. A killed process still
completes the call that it is in, so after SIGKILL the receive buffer holds every datagram that left the socket.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from collections.abc import Iterator
from socket import AF_INET, AF_INET6, inet_ntop

#: Most datagrams that one call takes.
BATCH = 64

#: Bytes for one datagram: more than UDP can carry (65,507), so that only a unix socket's can be too long.
DATAGRAM_BYTES = 65_536

#: Bytes for a sender's address. The kernel overwrites the length beside it, which shows that a datagram came.
_NAME_BYTES = 128

_WORD = 8


class _IoVec(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """struct msghdr (recvmsg(2))."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iov", ctypes.c_void_p),
        ("iov_length", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """struct mmsghdr (recvmmsg(2))."""

    _anonymous_ = ("header",)
    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)


class ReceiveBuffer:
    """Space for BATCH datagrams, in memory given by the caller."""

    _MESSAGES = _WORD
    _VECTORS = _MESSAGES + BATCH * ctypes.sizeof(_Message)
    _NAMES = _VECTORS + BATCH * ctypes.sizeof(_IoVec)
    _DATA = 16_384  #: the first whole page after the names
    SIZE = _DATA + BATCH * DATAGRAM_BYTES

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._batch = memory[:_WORD].cast("Q")  #: 1 + the number of the batch that lies here; 0: none does
        self._messages = (_Message * BATCH).from_buffer(memory, self._MESSAGES)
        vectors = (_IoVec * BATCH).from_buffer(memory, self._VECTORS)
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        for index, (message, vector) in enumerate(zip(self._messages, vectors, strict=True)):
            vector.base = start + self._DATA + index * DATAGRAM_BYTES
            vector.length = DATAGRAM_BYTES
            message.name = start + self._NAMES + index * _NAME_BYTES
            message.iov = ctypes.addressof(vector)
            message.iov_length = 1
        self._filled = BATCH

    def receive(self, source: socket.socket, batch: int) -> int:
        """Take what the socket has now, as batch number `batch`; returns how many datagrams. OSError if it fails."""
        for index in range(self._filled):
            self._messages[index].name_length = _NAME_BYTES
        self._filled = 0
        return self.receive_more(source, batch)

    def receive_more(self, source: socket.socket, batch: int) -> int:
        """Take what the socket has now, behind what the batch of this number has already."""
        self._batch[0] = batch + 1
        start = ctypes.addressof(self._messages) + self._filled * ctypes.sizeof(_Message)
        taken: int = _libc.recvmmsg(source.fileno(), start, BATCH - self._filled, socket.MSG_DONTWAIT, None)
        if taken < 0:
            number = ctypes.get_errno()
            if number in (errno.EAGAIN, errno.EINTR):
                return 0
            raise OSError(number, os.strerror(number))
        self._filled += taken
        return taken

    def clear(self) -> None:
        """Forget what lies here, whoever received it."""
        for message in self._messages:
            message.name_length = _NAME_BYTES
        self._filled = 0

    @property
    def full(self) -> bool:
        """Whether no more datagram fits."""
        return self._filled == BATCH

    def pending(self, batch: int) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Index, sender and data of each datagram of the batch of this number; data is None when it was cut short."""
        if self._batch[0] != batch + 1:
            return
        for index, message in enumerate(self._messages):
            if message.name_length == _NAME_BYTES:
                return
            self._filled = max(self._filled, index + 1)
            name = self._NAMES + index * _NAME_BYTES
            data = self._DATA + index * DATAGRAM_BYTES
            whole = not message.flags & socket.MSG_TRUNC
            yield (
                index,
                bytes(self._memory[name : name + message.name_length]),
                bytes(self._memory[data : data + message.length]) if whole else None,
            )


def sender_address(name: bytes) -> str | None:
    """The IP address in a struct sockaddr (ip(7), ipv6(7)); None for a unix socket's."""
    family = int.from_bytes(name[:2], sys.byteorder)
    if family == AF_INET:
        return inet_ntop(AF_INET, name[4:8])
    if family == AF_INET6:
        return inet_ntop(AF_INET6, name[8:24])
    return None
