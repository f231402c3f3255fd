"""Netlink to the packet filters of the kernel: messages, attributes, acknowledgements, dumps. Both backends use it.

    nftables/kernel.py, iptables/kernel.py  ->  this  ->  nfnetlink

What is special to ip_set or nf_tables is in their kernel.py. A request by netlink takes microseconds, a program takes
milliseconds, and a dump is read piece by piece, so it needs little memory. The numbers are from linux/netlink.h and
linux/netfilter/nfnetlink.h.
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

#: Flags of a message; and the kind of message that carries an error or an acknowledgement.
REQUEST, ACK, EXCLUSIVE, CREATE = 1, 4, 0x200, 0x400
ERROR = 2

#: Flags of an attribute: it is made of attributes; it is a number in network byte order.
NESTED, NETWORK_ORDER = 0x8000, 0x4000

_NETLINK_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _CAP_ACK = 12, 270, 1, 10
_RCVBUFFORCE = 33
_DONE, _DUMP = 3, 0x300

#: struct nlmsghdr: length, kind, flags, sequence, port; and struct nfgenmsg after it: family, version, resource.
_HEADER, _SUBHEADER = struct.Struct("=IHHII"), struct.Struct("!BBH")
_ANSWER = struct.Struct("=IHHIIi16x")
BODY_AT = _HEADER.size + _SUBHEADER.size

#: Longest answer of the kernel, bytes. The kernel fills the buffer that it is given, but not more than 32 KiB of it.
LONGEST = 1 << 16

_REMEDIES = {
    errno.EPERM: "run as root or with CAP_NET_ADMIN",
    errno.EACCES: "run as root or with CAP_NET_ADMIN",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= of the service, ulimit -n)",
    errno.ENFILE: "raise the host's limit of open files (sysctl fs.file-max)",
    errno.EAFNOSUPPORT: "let the service use AF_NETLINK (RestrictAddressFamilies= of its unit)",
    errno.EPROTONOSUPPORT: "load the kernel module nfnetlink (modprobe nfnetlink)",
    errno.ENOBUFS: "the kernel has no memory left for this; look at free memory and dmesg",
    errno.ENOMEM: "the kernel has no memory left for this; look at free memory and dmesg",
}


class RefusedError(FirewallError):
    """The kernel refused. `number` is the errno; a number above 4095 is an error of the subsystem."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number


def attribute(kind: int, payload: bytes) -> bytes:
    """struct nlattr, padded to four bytes."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute that is a text, ended by NUL."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute that is a number of 32 bits."""
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
    """The content of each nest in a list of nests."""
    at = 0
    while at + 4 <= len(data):
        (length,) = struct.unpack_from("=H", data, at)
        yield data[at + 4 : at + length]
        at += max(length + 3 & ~3, 4)


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The netlink messages of one datagram: kind, flags, port of the socket that caused it, body after the header."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, _, port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            break
        yield kind, flags, port, data[at + _HEADER.size : at + length]
        at += length + 3 & ~3


class Netlink:
    """A socket to one subsystem, in the network namespace where it was opened. One thread at a time may use it.

    Every method raises RefusedError with the kernel's reason and a remedy.
    """

    subsystem: ClassVar[int]  #: NFNL_SUBSYS_*, the upper byte of a message's kind
    name: ClassVar[str]  #: for error messages
    family: ClassVar[int] = 0  #: of a message for which the caller gives none
    meanings: ClassVar[Mapping[int, str]] = {}  #: texts for error numbers; strerror(3) has the others
    remedies: ClassVar[Mapping[int, str]] = {}  #: by error number; _REMEDIES has the others

    def __init__(self) -> None:
        self._sequence = 0
        # with _CAP_ACK an error does not repeat the request
        self._socket = self._open("open a socket", (_SOL_NETLINK, _CAP_ACK, 1))

    @classmethod
    def listener(cls, group: int, size: int) -> socket.socket:
        """A socket that receives all messages to a multicast group of this network namespace; its buffer takes `size`
        bytes.
        """
        options = (socket.SOL_SOCKET, _RCVBUFFORCE, size), (_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        return cls._open("listen for changes", *options)

    @property
    def port(self) -> int:
        """The netlink port of this socket. Messages about changes carry the port of the socket that made them."""
        return int(self._socket.getsockname()[0]) & 0xFFFFFFFF

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def ask(self, kind: int, body: bytes, what: str, flags: int = 0) -> None:
        """Send one request and read its acknowledgement. The kernel carries it out before send() returns."""
        message = self.message(kind, REQUEST | ACK | flags, body)
        with self.told(what):
            self._socket.send(message)
            refused, done = self.answers(self._sequence, self._sequence)
        if refused or not done:
            raise self.refusal(refused or errno.EIO, what)

    def dump(self, kind: int, what: str, body: bytes = b"", family: int | None = None) -> Iterator[bytes]:
        """The body of each object. If the caller stops before the end, it must close the socket."""
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
        """The error for one of the kernel's error numbers."""
        meaning = cls.meanings.get(number) or os.strerror(number)
        remedy = cls.remedies.get(number) or _REMEDIES.get(number, "look at the host's load and dmesg")
        return RefusedError(number, f"{cls.name}: {what}: {meaning}; {remedy}")

    @classmethod
    @contextmanager
    def told(cls, what: str) -> Iterator[None]:
        """Turn an OSError of the socket into a RefusedError."""
        try:
            yield
        except OSError as error:
            raise cls.refusal(error.errno or errno.EIO, what) from error

    def answers(self, first: int, last: int) -> tuple[int, bool]:
        """Read the answers to the messages with the numbers `first` to `last`.

        Returns the first error number, 0 if there is none, and whether `last` is acknowledged.
        """
        refused, done = 0, False
        while True:
            try:
                data = self._socket.recv(LONGEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return refused, done
            for at in range(0, len(data), _ANSWER.size):  # all of one size, because they do not repeat requests
                _, kind, _, sequence, _, result = _ANSWER.unpack_from(data, at)
                if kind == ERROR and sequence >= first:
                    refused = refused or -result
                    done = done or (result == 0 and sequence == last)

    def message(self, kind: int, flags: int, body: bytes, family: int | None = None) -> bytes:
        """One message of the subsystem, with the next sequence number."""
        return self.raw(self.subsystem << 8 | kind, flags, body, self.family if family is None else family)

    def raw(self, kind: int, flags: int, body: bytes, family: int = 0, resource: int = 0) -> bytes:
        """One message of nfnetlink. Its kind says the subsystem too."""
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
