"""Speaking to nf_tables by netlink: transactions, looks, the last change. Knows no table by name and no rule.

Numbers are those of linux/netfilter/nfnetlink.h and linux/netfilter/nf_tables.h.
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

#: The attribute of every message that says which table it is about (NFTA_TABLE_NAME, NFTA_CHAIN_TABLE and so on).
TABLE = 1

SUBSYSTEM = 10  #: NFNL_SUBSYS_NFTABLES

_GROUP = 7  #: NFNLGRP_NFTABLES
_SNDBUFFORCE = 32
_BATCH_BEGIN, _BATCH_END = 16, 17
_LOOK = "a look at the tables"


class NfTables(nl.Netlink):
    """A socket to the nf_tables of the network namespace that it was made in. For one thread at a time."""

    subsystem, name, family = SUBSYSTEM, "nftables", INET
    remedies: ClassVar = {
        errno.ENOENT: "the next install makes it",
        errno.EPROTONOSUPPORT: "load the kernel module nf_tables (modprobe nf_tables)",
        errno.EINVAL: "load the kernel module nf_tables (modprobe nf_tables)",
        errno.ENOMEM: "the kernel has no memory left for more bans",
    }

    def commit(self, changes: Sequence[tuple[int, bytes]], *, only_new: bool = False) -> None:
        """Make all changes, pairs of kind and body, or none of them; RefusedError with the first reason against it.

        With `only_new`, what is to be made and stands already is such a reason (EEXIST).

        The kernel works before send() returns, so its answers are there then; and it acknowledges the last change
        only when all of them are in force.
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
        with self.told("a change"):
            self._socket.setsockopt(socket.SOL_SOCKET, _SNDBUFFORCE, max(2 * len(data), 1 << 18))
            self._socket.send(data)
            refused, done = self.answers(first, last)
        if refused or not done:
            raise self.refusal(refused or errno.EIO, "a change")

    def look(self, kind: int, body: bytes = b"", family: int | None = None) -> Iterator[bytes]:
        """The body of each object that there is."""
        return self.dump(kind, _LOOK, body, family)

    def generation(self) -> int:
        """The number of the last change of any table."""
        with self.told(_LOOK):
            self._socket.send(self.message(GET_GENERATION, nl.REQUEST, b"", 0))
            kind, _, _, rest = next(nl.messages(self._socket.recv(nl.LONGEST)))
        if kind == nl.ERROR:
            raise self.refusal(-struct.unpack_from("=i", rest)[0], _LOOK)
        return int.from_bytes(nl.attributes(rest[4:])[1], "big")


def listener(size: int) -> socket.socket:
    """A socket that hears of every change of tables in this network namespace, as far as it fits into `size` bytes."""
    return NfTables.listener(_GROUP, size)
