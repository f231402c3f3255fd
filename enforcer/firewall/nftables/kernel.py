"""The commands and attributes of nf_tables, by netlink: transactions, lists, the generation. Knows no table or rule.

The numbers are from linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import ClassVar

from enforcer.firewall import netlink as nl

NEW_TABLE, GET_TABLE, DEL_TABLE, NEW_CHAIN, GET_CHAIN, DEL_CHAIN, NEW_RULE, GET_RULE, DEL_RULE = range(9)
NEW_SET, GET_SET, DEL_SET, NEW_ELEMENTS, GET_ELEMENTS, DEL_ELEMENTS, NEW_GENERATION, GET_GENERATION = range(9, 17)

#: The family of a table for IPv4 and IPv6, NFPROTO_INET.
INET = 1

#: The attribute with the table's name, the same number in every message (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and so on).
TABLE = 1

SUBSYSTEM = 10  #: NFNL_SUBSYS_NFTABLES

_GROUP = 7  #: NFNLGRP_NFTABLES
_SNDBUFFORCE = 32
_BATCH_BEGIN, _BATCH_END = 16, 17
_LOOK, _CHANGE = "read the tables", "change the table"


class NfTables(nl.Netlink):
    """A socket to nf_tables of the network namespace where it was opened. One thread at a time may use it."""

    subsystem, name, family = SUBSYSTEM, "nftables", INET
    remedies: ClassVar = {
        errno.ENOENT: "the enforcer makes it at its next check",
        errno.EPROTONOSUPPORT: "load the kernel module nf_tables (modprobe nf_tables)",
        errno.EINVAL: "load the kernel module nf_tables (modprobe nf_tables)",
        errno.ENOMEM: "the kernel has no memory left for more bans; look at free memory and dmesg",
    }

    def commit(self, changes: Sequence[tuple[int, bytes]], *, only_new: bool = False) -> None:
        """Make all changes, pairs of kind and body, or none of them; RefusedError with the kernel's first reason.

        With `only_new`, something to make that exists already is refused (EEXIST).

        The kernel does the work before send() returns, so its answers can be read then. It acknowledges the last
        change only when all of them are in force.
        """
        first = self._sequence + 1
        parts = [self.raw(_BATCH_BEGIN, nl.REQUEST, b"", resource=SUBSYSTEM)]
        for kind, body in changes:
            flags = nl.REQUEST | (nl.CREATE | only_new * nl.EXCLUSIVE if kind in (NEW_SET, NEW_ELEMENTS) else 0)
            flags |= nl.ACK if len(parts) == len(changes) else 0
            parts.append(self.message(kind, flags, body))
        last = self._sequence
        parts.append(self.raw(_BATCH_END, nl.REQUEST, b"", resource=SUBSYSTEM))
        data = b"".join(parts)
        with self.told(_CHANGE):
            self._socket.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, max(2 * len(data), 1 << 18))
            self._socket.send(data)
            refused, done = self.answers(first, last)
        if refused or not done:
            raise self.refusal(refused or errno.EIO, _CHANGE)

    def look(self, kind: int, body: bytes = b"", family: int | None = None) -> Iterator[bytes]:
        """The body of each object of one kind."""
        return self.dump(kind, _LOOK, body, family)

    def generation(self) -> int:
        """The number that each change of any table raises."""
        with self.told(_LOOK):
            self._socket.send(self.message(GET_GENERATION, nl.REQUEST, b"", 0))
            kind, _, _, rest = next(nl.messages(self._socket.recv(nl.LONGEST)))
        if kind == nl.ERROR:
            raise self.refusal(-struct.unpack_from("=i", rest)[0], _LOOK)
        return int.from_bytes(nl.attributes(rest[4:])[1], "big")


def listener(size: int) -> socket.socket:
    """A socket that receives a message for every change of a table in this network namespace; its buffer takes `size`
    bytes.
    """
    return NfTables.listener(_GROUP, size)
