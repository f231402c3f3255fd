"""Networks as elements of nf_tables sets: which set each belongs into, and how netlink writes it. Asks no kernel."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from enforcer.firewall import netlink as nl
from enforcer.reconcile import LONGEST_TIMEOUT_MS
from shared.addresses import Network, is_ipv6, parse_network
from shared.errors import AddressError, FirewallError

#: Bytes of an address, by family.
KEY_BYTES = {4: 4, 6: 16}

_SOCKET_FAMILIES = {4: AF_INET, 6: AF_INET6}
_ELEMENT, _KEY, _TIMEOUT, _EXPIRATION, _VALUE = 1, 1, 4, 5, 1

_OURS = re.compile(r"v([46])_(\d{1,3})")

#: An element as the kernel tells it: heads, key, head, ms of its timeout, head, ms left.
_TOLD = {4: struct.Struct(">12s4s4sQ4sQ"), 6: struct.Struct(">12s16s4sQ4sQ")}


def set_name(family: int, length: int) -> str:
    """The set of the networks of this prefix length."""
    return f"v{family}_{length}"


def family_and_length(name: str) -> tuple[int, int] | None:
    """What `set_name` was given, or None if this is no set of bans."""
    matched = _OURS.fullmatch(name)
    if matched is None or not 0 < int(matched[2]) <= 8 * KEY_BYTES[int(matched[1])]:
        return None
    return int(matched[1]), int(matched[2])


def checked(network: Network) -> Network:
    """The border: what is not a network in canonical form is refused, and so is everything (/0)."""
    try:
        canonical = parse_network(network)
    except AddressError as error:
        raise FirewallError(f"not banned: {error}") from error
    if canonical != network or canonical.endswith("/0"):
        raise FirewallError(f"not banned: {network[:64]!r} has no place in a set; give a canonical network, not /0")
    return network


def set_of(network: Network) -> tuple[int, int]:
    """Family and prefix length of a canonical network."""
    _, _, length = network.partition("/")
    return (6, int(length or 128)) if is_ipv6(network) else (4, int(length or 32))


def asked_element(network: Network, left_ms: int) -> tuple[str, bytes]:
    """The set that a network belongs into, and what to say of it; without a timeout if `left_ms` is 0."""
    family, length = set_of(network)
    key = inet_pton(_SOCKET_FAMILIES[family], network.partition("/")[0])
    attributes = nl.nest(_KEY, nl.attribute(_VALUE, key))
    if left_ms:
        attributes += nl.attribute(_TIMEOUT, left_ms.to_bytes(8, "big"))
    return set_name(family, length), nl.nest(_ELEMENT, attributes)


def told_elements(data: bytes, family: int) -> Iterator[tuple[bytes, int]]:
    """The keys in a list of elements, each with its milliseconds left; LONGEST_TIMEOUT_MS for one without timeout."""
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


def network_of(key: bytes, family: int, length: int) -> Network:
    """The network whose set holds this key."""
    text = inet_ntop(_SOCKET_FAMILIES[family], key) + ("" if length == 8 * KEY_BYTES[family] else f"/{length}")
    # glibc writes the deprecated ::a.b.c.d where we write ::aabb:ccdd; all else is canonical already
    return parse_network(text) if family == 6 and "." in text else Network(text)
