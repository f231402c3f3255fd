"""Netlink to the packet filters of the kernel: messages, attributes, acknowledgements, dumps. Knows no subsystem.

    nftables/kernel.py, iptables/kernel.py  ->  this  ->  nfnetlink

A conversation with the kernel itself costs microseconds where a program costs milliseconds, and a dump needs no memory.
Numbers are those of linux/netlink.h and linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import ClassVar, Self

from shared.errors import FirewallError

#: Flags of a message, and the kind of one that says what went wrong.
REQUEST, ACK, EXCLUSIVE, CREATE = 1, 4, 0x200, 0x400
ERROR = 2

#: Of an attribute: made of attributes; a number that stands in the order of the network, where that must be said.
NESTED, NETWORK_ORDER = 0x8000, 0x4000

_NETLINK_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK = 12, 270, 1, 10
_RCVBUFFORCE = 33
_DONE, _DUMP = 3, 0x300

#: struct nlmsghdr: length, kind, flags, sequence, port; and struct nfgenmsg behind it: family, version, resource.
_HEADER, _SUBHEADER = struct.Struct("=IHHII"), struct.Struct("!BBH")
_ANSWER = struct.Struct("=IHHIIi16x")
BODY_AT = _HEADER.size + _SUBHEADER.size

#: Longest answer of the kernel, bytes: it fills as much of the buffer as it is given, up to 32 KiB.
LONGEST = 1 << 16

_REMEDIES = {
    errno.EPERM: "run as root or with CAP_NET_ADMIN",
    errno.EACCES: "run as root or with CAP_NET_ADMIN",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= of the service, ulimit -n)",
    errno.ENFILE: "raise the host's limit of open files (sysctl fs.file-max)",
    errno.EAFNOSUPPORT: "let the service use AF_NETLINK (RestrictAddressFamilies= of its unit)",
    errno.EPROTONOSUPPORT: "load the kernel module nfnetlink (modprobe nfnetlink)",
    errno.ENOBUFS: "the kernel has no memory left for it; look at free memory and dmesg",
    errno.ENOMEM: "the kernel has no memory left for it; look at free memory and dmesg",
}


class RefusedError(FirewallError):
    """The kernel refused: `number` is its errno, or above 4095 a number of the subsystem's own."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def attribute(kind: int, payload: bytes) -> bytes:
    """struct nlattr, padded to four bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a name."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute of 32 bits."""
    return attribute(kind, value.to_bytes(4, "big"))


def nest(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | NESTED, b"".join(attributes))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in a body or a nest, by kind."""
    found, at = {}, 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found


def nests(data: bytes) -> Iterator[bytes]:
    """What is in each attribute of a list of nests that are all of one kind."""
    at = 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("=H", data, at)
        yield data[at + 4 : at + length]
        at += max(length + 3 & ~3, 4)


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The netlink messages of one datagram: kind, flags, port of the sender who caused it, what follows the header."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, _, port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            break
        yield kind, flags, port, data[at + _HEADER.size : at + length]
        at += length + 3 & ~3


class Netlink:
    """A socket to one subsystem in the network namespace that it was made in. For one thread at a time.

    Every method raises RefusedError with the kernel's reason and a remedy.
    """

    subsystem: ClassVar[int]  #: NFNL_SUBSYS_*, the upper byte of a message's kind
    name: ClassVar[str]  #: for error messages
    family: ClassVar[int] = 0  #: of the messages that do not say another
    meanings: ClassVar[Mapping[int, str]] = {}  #: what its error numbers mean where strerror(3) does not know
    remedies: ClassVar[Mapping[int, str]] = {}

    def __init__(self) -> None:
        self._sequence = 0
        # an error does not quote what we said
        self._socket = self._open("no netlink socket", (_SOL_NETLINK, _CAP_ACK, 1))

    @classmethod
    def listener(cls, group: int, size: int) -> socket.socket:
        """A socket that hears all that a group is told in this network namespace, as far as it fits in `size` bytes."""
        options = (socket.SOL_SOCKET, _RCVBUFFORCE, size), (_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        return cls._open("cannot listen to changes", *options)

    @property
    def port(self) -> int:
        """By which the kernel names us to all who listen to changes."""
        return int(self._socket.getsockname()[0]) & 0xFFFFFFFF

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def ask(self, kind: int, body: bytes, what: str, flags: int = 0) -> None:
        """Have one thing done, and acknowledged. The kernel works before send() returns."""
        message = self.message(kind, REQUEST | ACK | flags, body)
        with self.told(what):
            self._socket.send(message)
            refused, done = self.answers(self._sequence, self._sequence)
        if refused or not done:
            raise self.refusal(refused or errno.EIO, what)

    def dump(self, kind: int, what: str, body: bytes = b"", family: int | None = None) -> Iterator[bytes]:
        """The body of each object that there is. One that is not read to its end needs the socket closed."""
        with self.told(what):
            self._socket.send(self.message(kind, REQUEST | _DUMP, body, family))
            while True:
                for answer, _, _, rest in messages(self._socket.recv(LONGEST)):
                    if answer in (_DONE, ERROR):
                        (result,) = struct.unpack_from("=i", rest)
                        if result:
                            raise self.refusal(-result, what)
                        return
                    yield rest[_SUBHEADER.size :]

    @classmethod
    def refusal(cls, number: int, what: str) -> RefusedError:
        """The error for one of the kernel's numbers."""
        meaning = cls.meanings.get(number) or os.strerror(number)
        remedy = cls.remedies.get(number) or _REMEDIES.get(number, "look at the host's load and dmesg")
        return RefusedError(number, f"{cls.name}: {what}: {meaning}; {remedy}")

    @classmethod
    @contextmanager
    def told(cls, what: str) -> Iterator[None]:
        """An OSError on the way to the kernel becomes a RefusedError."""
        try:
            yield
        except OSError as error:
            raise cls.refusal(error.errno or errno.EIO, what) from error

    def answers(self, first: int, last: int) -> tuple[int, bool]:
        """The first errno that a message since `first` met, 0 if none, and whether the `last` is acknowledged."""
        refused, done = 0, False
        while True:
            try:
                data = self._socket.recv(LONGEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return refused, done
            for at in range(0, len(data), _ANSWER.size):  # all of one size, because they quote nothing
                _, kind, _, sequence, _, result = _ANSWER.unpack_from(data, at)
                if kind == ERROR and sequence >= first:
                    refused = refused or -result
                    done = done or (result == 0 and sequence == last)

    def message(self, kind: int, flags: int, body: bytes, family: int | None = None) -> bytes:
        """One message of the subsystem, with the next number."""
        return self.raw(self.subsystem << 8 | kind, flags, body, self.family if family is None else family)

    def raw(self, kind: int, flags: int, body: bytes, family: int = 0, resource: int = 0) -> bytes:
        """One message of nfnetlink itself."""
        self._sequence += 1
        length = BODY_AT + len(body)
        return _HEADER.pack(length, kind, flags, self._sequence, 0) + _SUBHEADER.pack(family, 0, resource) + body

    @classmethod
    def _open(cls, what: str, *options: tuple[int, int, int]) -> socket.socket:
        with cls.told(what):
            opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
            try:
                opened.bind((0, 0))
                for option in options:
                    opened.setsockopt(*option)
            except OSError:
                opened.close()
                raise
        return opened
