"""Networks as elements of ipset's sets: writes those that go in, and reads those that the kernel lists."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from enforcer.firewall import netlink as nl
from enforcer.firewall.iptables import kernel as ip
from enforcer.firewall.networks import KEY_BYTES, key_of, network_of
from enforcer.reconcile import LONGEST_TIMEOUT_MS
from shared.addresses import Network


def _head(kind: int, length: int) -> bytes:
    return nl.attribute(kind, bytes(length))[:4]


#: The bytes that an element begins with: in a request (by length of address, without the element's own length), and as
#: the kernel lists it (by family).
_ASKED = {
    KEY_BYTES[family]: _head(ip.ADDRESS | nl.NESTED, KEY_BYTES[family] + 4)
    + _head(kind | nl.NETWORK_ORDER, KEY_BYTES[family])
    for family, kind in ip.IN_ADDRESS.items()
}
_TOLD = {
    family: _head(ip.ELEMENT | nl.NESTED, KEY_BYTES[family] + 48)
    + _head(ip.ADDRESS | nl.NESTED, KEY_BYTES[family] + 4)
    + _head(kind, KEY_BYTES[family])
    for family, kind in ip.IN_ADDRESS.items()
}
_LENGTH, _TIMEOUT = _head(ip.LENGTH, 1), _head(ip.TIMEOUT | nl.NETWORK_ORDER, 4)

#: An element of our sets as the kernel lists it: heads and address, head and prefix length, head and seconds left, both
#: counters. A head is the length and the kind of an attribute.
_SHAPES = {family: struct.Struct(f">12s{size}s4sB3x4sI24s") for family, size in KEY_BYTES.items()}

#: What is copied of an element when a set grows, beside address, prefix length and timeout.
_KEPT = (ip.FLAGS, ip.BYTES, ip.PACKETS)

_EXCEPTION = ip.number(ip.FLAGS, ip.NO_MATCH)


def element(key: bytes, length: int, left_s: int | None = None, more: bytes = b"") -> bytes:
    """A network as an element to add for `left_s` seconds (0: for ever), or to delete (None)."""
    body = _ASKED[len(key)] + key + _LENGTH + bytes((length, 0, 0, 0))
    if left_s is not None:
        body += _TIMEOUT + left_s.to_bytes(4, "big") + more
    return struct.pack("=HH", 4 + len(body), ip.ELEMENT | nl.NESTED) + body


def element_of(network: Network, left_s: int | None = None) -> bytes:
    """The element for a canonical network."""
    _, length, key = key_of(network)
    return element(key, length, left_s)


def told_elements(data: bytes, family: int) -> Iterator[tuple[bytes, int, int, bytes]]:
    """Address, prefix length, seconds left, and what else to keep of each element that the kernel lists.

    The kernel rounds less than a second up to one; 0 means for ever.
    """
    shape, heads, at = _SHAPES[family], _TOLD[family], 0
    while at + 4 <= len(data):
        if at + shape.size <= len(data):
            head, key, length_head, length, timeout_head, left_s, more = shape.unpack_from(data, at)
            if (head, length_head, timeout_head) == (heads, _LENGTH, _TIMEOUT):
                yield key, length, left_s, more
                at += shape.size
                continue
        size, _ = struct.unpack_from("=HH", data, at)
        told = nl.attributes(data[at + 4 : at + size])
        address = nl.attributes(told.get(ip.ADDRESS, b"")).get(ip.IN_ADDRESS[family])
        if address is not None:  # else it is not a network: a set of another type has our name
            more = b"".join(nl.attribute(kind | nl.NETWORK_ORDER, told[kind]) for kind in _KEPT if kind in told)
            length = told[ip.LENGTH][0] if ip.LENGTH in told else 8 * KEY_BYTES[family]
            yield address, length, int.from_bytes(told.get(ip.TIMEOUT, b""), "big"), more
        at += max(size + 3 & ~3, 4)


def members_of(name: str, family: int) -> Iterator[tuple[Network, int]]:
    """The members of a set, read piece by piece, each with its milliseconds left; FirewallError if there is no set.

    One without a timeout has LONGEST_TIMEOUT_MS. Exceptions (nomatch) are not members.
    """
    with ip.IpSet() as kernel:
        for data in kernel.elements(name):
            for key, length, left_s, more in told_elements(data, family):
                if not more.startswith(_EXCEPTION):
                    yield network_of(key, family, length), left_s * 1000 or LONGEST_TIMEOUT_MS
