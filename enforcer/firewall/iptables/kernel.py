"""The commands and attributes of ip_set, by netlink as ipset(8) uses it: sets, their headers, their elements. No bans.

The numbers are from linux/netfilter/ipset/ip_set.h and ip_set_hash.h.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import ClassVar

from enforcer.firewall import netlink as nl

CREATE, DESTROY, SWAP, LIST, ADD, DELETE = 2, 3, 6, 7, 9, 10

#: The longest name of a set: IPSET_MAXNAMELEN without the NUL.
LONGEST_NAME = 31

#: Attributes of a set and of its header.
TYPE, FAMILY, HEADER = 3, 5, 7
TIMEOUT, FLAGS, HASHSIZE, MAXELEM, ENTRIES = 6, 8, 18, 19, 24
WITH_COUNTERS = 8

#: Attributes of an element, and the flag of an element that is an exception from a wider network.
ELEMENT, ADDRESS, LENGTH, PORT, PORT_TO, BYTES, PACKETS = 7, 1, 3, 4, 5, 24, 25
NO_MATCH = 4

#: By family: the attribute of its addresses within ADDRESS, and NFPROTO_*.
IN_ADDRESS, PROTOCOLS = {4: 1, 6: 2}, {4: 2, 6: 10}

#: The kernel's error for a full set.
FULL = 4352

_SUBSYSTEM = 6  #: NFNL_SUBSYS_IPSET
_PROTOCOL, _NAME, _REVISION, _COMMAND_FLAGS, _ELEMENTS, _LINE = 1, 2, 4, 6, 8, 9
_NAMES_ONLY, _HEADER_ONLY = 2, 4
_VERSION = nl.attribute(_PROTOCOL, b"\6")

#: The most elements in one message: the length of a nest has 16 bits, and an IPv6 element with counters has 68 bytes.
_MESSAGE = 900


class IpSet(nl.Netlink):
    """A socket to the sets of the network namespace where it was opened. One thread at a time may use it."""

    subsystem, name = _SUBSYSTEM, "ipset"
    meanings: ClassVar = {
        errno.ENOENT: "there is no such set",
        errno.EEXIST: "a set of this name already exists",
        errno.EBUSY: "another program is reading the set",
        4097: "the kernel does not understand the request",
        4098: "the kernel does not know this type of set",
        4099: "the kernel has the most sets that it may have",
        4100: "a rule or another set refers to it",
        4102: "the sets are of different types",
        4103: "the element is in the set already, or is not in it",
        4107: "the set has no timeouts",
        FULL: "the set is full",
    }
    remedies: ClassVar = {
        errno.ENOENT: "the enforcer makes it at its next check",
        errno.EBUSY: "end the program that reads it, if this stays",
        errno.EEXIST: "destroy it or set [enforcer] prefix",
        errno.EINVAL: "load the kernel module ip_set (modprobe ip_set)",
        4098: "load the kernel modules ip_set_hash_net and ip_set_bitmap_port (modprobe)",
        4099: "destroy some, or load the module ip_set with a larger max_sets",
        4100: "remove the other rule that refers to it",
        FULL: "raise enforcer.maxelem_limit, or unban what need not be banned",
    }

    def create(self, name: str, kind: str, revision: int, family: int, *options: bytes) -> None:
        """Make a set. Most kernels and tools know the lowest revision of a type, so give the lowest that is enough."""
        about = nl.text(TYPE, kind) + nl.attribute(_REVISION, bytes([revision])) + nl.attribute(FAMILY, bytes([family]))
        self.ask(CREATE, _about(name) + about + nl.nest(HEADER, *options), f"create {name}", nl.EXCLUSIVE)

    def destroy(self, name: str) -> None:
        """Remove a set."""
        self.ask(DESTROY, _about(name), f"destroy {name}")

    def swap(self, name: str, other: str) -> None:
        """Swap two sets in one step: what refers to one of them then refers to the other."""
        self.ask(SWAP, _about(name) + nl.text(TYPE, other), f"swap {name} {other}")

    def change(self, command: int, name: str, elements: Iterable[bytes]) -> None:
        """ADD or DELETE elements in this order, up to the first that the kernel refuses.

        To add an element that is in the set sets its timeout again; to delete one that is not in it is no error.
        """
        elements = iter(elements)
        what = f"{'add to' if command == ADD else 'delete from'} {name}"
        line = nl.attribute(_LINE, bytes(4))  # the kernel needs this attribute, and does not use its value
        while some := list(islice(elements, _MESSAGE)):
            self.ask(command, _about(name) + line + nl.nest(_ELEMENTS, *some), what)

    def names(self) -> list[str]:
        """The names of all sets."""
        asked = _VERSION + nl.number(_COMMAND_FLAGS, _NAMES_ONLY)
        return [_text(nl.attributes(body)[_NAME]) for body in self.dump(LIST, "list", asked)]

    def header(self, name: str) -> tuple[str, int, dict[int, bytes]]:
        """The type, the family (NFPROTO_*) and the header of a set."""
        [body] = self.dump(LIST, f"list {name}", _about(name) + nl.number(_COMMAND_FLAGS, _HEADER_ONLY))
        told = nl.attributes(body)
        return _text(told[TYPE]), told[FAMILY][0], nl.attributes(told[HEADER])

    def elements(self, name: str) -> Iterator[bytes]:
        """The elements of a set, many at a time. One call lists each element that stays in the set exactly once."""
        for body in self.dump(LIST, f"list {name}", _about(name)):
            yield nl.attributes(body).get(_ELEMENTS, b"")


def set_names() -> list[str]:
    """The names of all sets in this network namespace; FirewallError without permission to look."""
    with IpSet() as kernel:
        return kernel.names()


def port(kind: int, value: int) -> bytes:
    """An attribute that is a number of 16 bits, such as a port."""
    return nl.attribute(kind | nl.NETWORK_ORDER, value.to_bytes(2, "big"))


def number(kind: int, value: int) -> bytes:
    """An attribute that is a number of 32 bits."""
    return nl.attribute(kind | nl.NETWORK_ORDER, value.to_bytes(4, "big"))


def _about(name: str) -> bytes:
    return _VERSION + nl.text(_NAME, name)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")  # others may name their sets as they like
