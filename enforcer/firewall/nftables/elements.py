"""Networks as elements of nf_tables sets: which set each belongs to, and its bytes. Does not ask the kernel."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator

from enforcer.firewall import netlink as nl
from enforcer.firewall.networks import KEY_BYTES, key_of
from enforcer.reconcile import LONGEST_TIMEOUT_MS
from shared.addresses import Network

_ELEMENT, _KEY, _TIMEOUT, _EXPIRATION, _VALUE = 1, 1, 4, 5, 1

_OURS = re.compile(r"v([46])_(\d{1,3})")

#: An element as the kernel lists it: heads, key, head, ms of its timeout, head, ms left. A head is the length and the
#: kind of an attribute.
_TOLD = {4: struct.Struct(">12s4s4sQ4sQ"), 6: struct.Struct(">12s16s4sQ4sQ")}


def set_name(family: int, length: int) -> str:
    """The set of the networks of this prefix length."""
    return f"v{family}_{length}"


def family_and_length(name: str) -> tuple[int, int] | None:
    """The inverse of `set_name`; None if this is not the name of a set of bans."""
    matched = _OURS.fullmatch(name)
    if matched is None or not 0 < int(matched[2]) <= 8 * KEY_BYTES[int(matched[1])]:
        return None
    return int(matched[1]), int(matched[2])


def asked_element(network: Network, left_ms: int) -> tuple[str, bytes]:
    """The set that a network belongs to, and its element; without a timeout if `left_ms` is 0."""
    family, length, key = key_of(network)
    attributes = nl.nest(_KEY, nl.attribute(_VALUE, key))
    if left_ms:
        attributes += nl.attribute(_TIMEOUT, left_ms.to_bytes(8, "big"))
    return set_name(family, length), nl.nest(_ELEMENT, attributes)


def told_elements(data: bytes, family: int) -> Iterator[tuple[bytes, int]]:
    """The keys in a list of elements, each with its milliseconds left; LONGEST_TIMEOUT_MS for one without a timeout."""
    told, key_length = _TOLD[family], KEY_BYTES[family]
    heads = nl.attribute(_ELEMENT, bytes(told.size - 4))[:4]
    heads += nl.attribute(_KEY, bytes(key_length + 4))[:4] + nl.attribute(_VALUE, bytes(key_length))[:4]
    timeout, expiration = nl.attribute(_TIMEOUT, bytes(8))[:4], nl.attribute(_EXPIRATION, bytes(8))[:4]
    at = 0
    while at + 4 <= len(data):
        if at + told.size <= len(data):
            head, key, timeout_head, _, expiration_head, left_ms = told.unpack_from(data, at)
            if (head, timeout_head, expiration_head) == (heads, timeout, expiration):
                yield key, left_ms
                at += told.size
                continue
        length = int.from_bytes(data[at : at + 2], sys.byteorder)
        element = nl.attributes(data[at + 4 : at + length])
        left = element.get(_EXPIRATION)
        yield nl.attributes(element[_KEY])[_VALUE], int.from_bytes(left, "big") if left else LONGEST_TIMEOUT_MS
        at += max(length + 3 & ~3, 4)
