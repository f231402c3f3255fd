"""Speaking to ip_set by netlink, as ipset(8) does: sets by name, their headers, their elements. Knows no ban.

Numbers are those of linux/netfilter/ipset/ip_set.h and ip_set_hash.h.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import ClassVar

from enforcer.firewall import netlink as nl

CREATE, DESTROY, SWAP, LIST, ADD, DELETE = 2, 3, 6, 7, 9, 10

#: The longest name of a set: IPSET_MAXNAMELEN less its NUL.
LONGEST_NAME = 31

#: Attributes of a set and of its header.
TYPE, FAMILY, HEADER = 3, 5, 7
TIMEOUT, FLAGS, HASHSIZE, MAXELEM, ENTRIES = 6, 8, 18, 19, 24
WITH_COUNTERS = 8

#: Attributes of an element, and the flag of one that is an exception from wider ones.
ELEMENT, ADDRESS, LENGTH, PORT, PORT_TO, BYTES, PACKETS = 7, 1, 3, 4, 5, 24, 25
NO_MATCH = 4

#: Of each family: the attribute of its addresses within ADDRESS, and NFPROTO_*.
IN_ADDRESS, PROTOCOLS = {4: 1, 6: 2}, {4: 2, 6: 10}

#: The kernel's error for a set that holds all that it may.
FULL = 4352

_SUBSYSTEM = 6  #: NFNL_SUBSYS_IPSET
_PROTOCOL, _NAME, _REVISION, _COMMAND_FLAGS, _ELEMENTS, _LINE = 1, 2, 4, 6, 8, 9
_NAMES_ONLY, _HEADER_ONLY = 2, 4
_VERSION = nl.attribute(_PROTOCOL, b"\6")

#: Elements in one message at most: a nest's length has 16 bits, and one of IPv6 with its counters takes 68 bytes.
_MESSAGE = 900


class IpSet(nl.Netlink):
    """A socket to the sets of the network namespace that it was made in. For one thread at a time."""

    subsystem, name = _SUBSYSTEM, "ipset"
    meanings: ClassVar = {
        errno.ENOENT: "there is no such set",
        errno.EEXIST: "a set of this name already exists",
        errno.EBUSY: "somebody is reading the set",
        4097: "the kernel does not understand us",
        4098: "the kernel does not know this type of set",
        4099: "the kernel has as many sets as it may",
        4100: "a rule or another set refers to it",
        4102: "the sets are of different types",
        4103: "the element is there already, or is not there",
        FULL: "the set is full",
    }
    remedies: ClassVar = {
        errno.ENOENT: "the next install makes it",
        errno.EEXIST: "destroy it or set [enforcer] prefix",
        errno.EINVAL: "load the kernel module ip_set (modprobe ip_set)",
        4098: "load the kernel modules ip_set_hash_net and ip_set_bitmap_port (modprobe)",
        4099: "destroy some, or load the module ip_set with a larger max_sets",
        4100: "remove the foreign rule that refers to it",
        FULL: "unban what need not be banned",
    }

    def create(self, name: str, kind: str, revision: int, family: int, *options: bytes) -> None:
        """Make a set. The lowest revision of its type that has what is asked is known to most kernels and tools."""
        about = nl.text(TYPE, kind) + nl.attribute(_REVISION, bytes([revision])) + nl.attribute(FAMILY, bytes([family]))
        self.ask(CREATE, _about(name) + about + nl.nest(HEADER, *options), f"create {name}", nl.EXCLUSIVE)

    def destroy(self, name: str) -> None:
        """Remove a set."""
        self.ask(DESTROY, _about(name), f"destroy {name}")

    def swap(self, name: str, other: str) -> None:
        """Have two sets change places: what refers to the one refers to the other, in one step."""
        self.ask(SWAP, _about(name) + nl.text(TYPE, other), f"swap {name} {other}")

    def change(self, command: int, name: str, elements: Iterable[bytes]) -> None:
        """ADD or DELETE elements in this order, up to the first that is refused. An element that is there already gets
        the new timeout; one that is absent is no error.
        """
        elements = iter(elements)
        what = f"{'add to' if command == ADD else 'delete from'} {name}"
        line = nl.attribute(_LINE, bytes(4))  # the kernel wants one, and numbers nothing by it
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
        """The elements of a set, many at a time; within one look, those that stay are told exactly once."""
        for body in self.dump(LIST, f"list {name}", _about(name)):
            yield nl.attributes(body).get(_ELEMENTS, b"")


def set_names() -> list[str]:
    """The names of all sets in this network namespace; FirewallError when looking is not allowed."""
    with IpSet() as kernel:
        return kernel.names()


def port(kind: int, value: int) -> bytes:
    """An attribute of 16 bits."""
    return nl.attribute(kind | nl.NETWORK_ORDER, value.to_bytes(2, "big"))


def number(kind: int, value: int) -> bytes:
    """An attribute of 32 bits."""
    return nl.attribute(kind | nl.NETWORK_ORDER, value.to_bytes(4, "big"))


def _about(name: str) -> bytes:
    return _VERSION + nl.text(_NAME, name)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode()
