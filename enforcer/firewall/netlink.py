"""Speaking to nf_tables by netlink: transactions, dumps, attributes. Knows no table by name and no rule.

A conversation with the kernel itself costs microseconds where nft(8) costs milliseconds, and a dump needs no memory.
Numbers are those of linux/netlink.h, linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from shared.errors import FirewallError

NEW_TABLE, GET_TABLE, DEL_TABLE, NEW_CHAIN, GET_CHAIN, DEL_CHAIN, NEW_RULE, GET_RULE, DEL_RULE = range(9)
NEW_SET, GET_SET, DEL_SET, NEW_ELEMENTS, GET_ELEMENTS, DEL_ELEMENTS, NEW_GENERATION, GET_GENERATION = range(9, 17)

#: The family of a table for IPv4 and IPv6, NFPROTO_INET.
INET = 1

#: The attribute of every message that says which table it is about (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and so on).
TABLE = 1

SUBSYSTEM = 10 << 8  #: NFNL_SUBSYS_NFTABLES, as the upper byte of a message's kind

_NETLINK_NETFILTER, _SOL_NETLINK, _CAP_ACK = 12, 270, 10
_ADD_MEMBERSHIP, _NFNLGRP_NFTABLES = 1, 7
_SNDBUFFORCE, _RCVBUFFORCE = 32, 33
_REQUEST, _ACK, _DUMP, _CREATE, _EXCLUSIVE = 1, 4, 0x300, 0x400, 0x200
_ERROR, _DONE = 2, 3
_BATCH_BEGIN, _BATCH_END = 16, 17
_NESTED = 0x8000

#: struct nlmsghdr: length, kind, flags, sequence, port; and struct nfgenmsg behind it: family, version, resource.
_HEADER, _SUBHEADER = struct.Struct("=IHHII"), struct.Struct("!BBH")
_ANSWER = struct.Struct("=IHHIIi16x")
BODY_AT = _HEADER.size + _SUBHEADER.size

#: Longest answer of the kernel, bytes: it fills as much of the buffer as it is given, up to 32 KiB.
_LONGEST = 1 << 16

_REMEDIES = {
    errno.EPERM: "run as root or with CAP_NET_ADMIN",
    errno.ENOENT: "the next install makes it",
    errno.EPROTONOSUPPORT: "load the kernel module nf_tables (modprobe nf_tables)",
    errno.EINVAL: "load the kernel module nf_tables (modprobe nf_tables)",
    errno.ENOMEM: "the kernel has no memory left for more bans",
}


class RefusedError(FirewallError):
    """The kernel refused: `number` is its errno."""

    def __init__(self, number: int, what: str) -> None:
        super().__init__(f"nftables: {what}: {os.strerror(number)}; {_REMEDIES.get(number, 'see nft(8)')}")
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
    return attribute(kind | _NESTED, b"".join(attributes))


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


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The netlink messages of one datagram: kind, flags, port of whoever caused it, and what follows the header."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, _, port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            break
        yield kind, flags, port, data[at + _HEADER.size : at + length]
        at += length + 3 & ~3


def listener(size: int) -> socket.socket:
    """A socket that hears of every change of tables in this network namespace, as far as it fits into `size` bytes."""
    try:
        listening = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        listening.bind((0, 0))
        listening.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, size)
        listening.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFNLGRP_NFTABLES)
    except OSError as error:
        raise RefusedError(error.errno or errno.EINVAL, "cannot listen to changes") from error
    return listening


class Netlink:
    """A socket to the nf_tables of the network namespace that it was made in. For one thread at a time."""

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        except OSError as error:
            raise RefusedError(error.errno or errno.EINVAL, "no netlink socket") from error
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)  # an error does not quote what we said
        self._sequence = 0

    @property
    def port(self) -> int:
        """By which the kernel names us to whoever listens to changes."""
        return int(self._socket.getsockname()[0]) & 0xFFFFFFFF

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def commit(self, changes: Sequence[tuple[int, bytes]], *, only_new: bool = False) -> None:
        """Make all changes, pairs of kind and body, or none of them; RefusedError with the first reason against it.

        With `only_new`, what is to be made and stands already is such a reason (EEXIST).

        The kernel works before send() returns, so its answers are there then; and it acknowledges the last change
        only when all of them are in force.
        """
        first = self._sequence + 1
        parts = [self._message(_BATCH_BEGIN, _REQUEST, b"", 0, SUBSYSTEM >> 8)]
        for kind, body in changes:
            flags = _REQUEST | (_CREATE | only_new * _EXCLUSIVE if kind in (NEW_SET, NEW_ELEMENTS) else 0)
            flags |= _ACK if len(parts) == len(changes) else 0
            parts.append(self._message(SUBSYSTEM | kind, flags, body, INET))
        last = self._sequence
        parts.append(self._message(_BATCH_END, _REQUEST, b"", 0, SUBSYSTEM >> 8))
        data = b"".join(parts)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, max(2 * len(data), 1 << 18))
            self._socket.send(data)
            refused, done = self._answers(first, last)
        except OSError as error:
            raise RefusedError(error.errno or errno.EIO, "a change") from error
        if refused or not done:
            raise RefusedError(refused or errno.EIO, "a change")

    def dump(self, kind: int, body: bytes = b"", family: int = INET) -> Iterator[bytes]:
        """The body of each object that there is."""
        try:
            self._socket.send(self._message(SUBSYSTEM | kind, _REQUEST | _DUMP, body, family))
            while True:
                for answer, _, _, rest in messages(self._socket.recv(_LONGEST)):
                    if answer in (_DONE, _ERROR):
                        (result,) = struct.unpack_from("=i", rest)
                        if result:
                            raise RefusedError(-result, "a look at the tables")
                        return
                    yield rest[_SUBHEADER.size :]
        except OSError as error:
            raise RefusedError(error.errno or errno.EIO, "a look at the tables") from error

    def generation(self) -> int:
        """The number of the last change of any table."""
        self._socket.send(self._message(SUBSYSTEM | GET_GENERATION, _REQUEST, b"", 0))
        kind, _, _, rest = next(messages(self._socket.recv(_LONGEST)))
        if kind == _ERROR:
            raise RefusedError(-struct.unpack_from("=i", rest)[0], "a look at the tables")
        return int.from_bytes(attributes(rest[_SUBHEADER.size :])[1], "big")

    def _answers(self, first: int, last: int) -> tuple[int, bool]:
        """The first errno that a message since `first` met, 0 if none, and whether the `last` is acknowledged."""
        refused, done = 0, False
        while True:
            try:
                data = self._socket.recv(_LONGEST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return refused, done
            for at in range(0, len(data), _ANSWER.size):  # all of one size, because they quote nothing
                _, kind, _, sequence, _, result = _ANSWER.unpack_from(data, at)
                if kind == _ERROR and sequence >= first:
                    refused = refused or -result
                    done = done or (result == 0 and sequence == last)

    def _message(self, kind: int, flags: int, body: bytes, family: int, resource: int = 0) -> bytes:
        self._sequence += 1
        length = BODY_AT + len(body)
        return _HEADER.pack(length, kind, flags, self._sequence, 0) + _SUBHEADER.pack(family, 0, resource) + body
