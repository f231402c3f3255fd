"""Addresses as pinban counts, bans and shows them. Pure: no resolver, no interface list.

A network is written in one way only: a lone address without prefix (`203.0.113.7`), anything wider with it
(`2001:db8:1:2::/64`), in the canonical form of RFC 5952. That text is the key in Redis, on the wire and in the kernel.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NewType

from shared.errors import AddressError

Network = NewType("Network", str)

#: An end site gets a /64 at least (RFC 6177): its hosts choose the lower 64 bits as they like.
IPV6_PREFIX = 64

#: What is given away in one piece, to an end site (RFC 6177) or to a small provider: its owner has all addresses in it.
_BLOCK4, _BLOCK6 = 24, 48

#: ::ffff:0:0/96, RFC 4291 section 2.5.5.2
_MAPPED = bytes(10) + b"\xff\xff"

#: By prefix length as it is written, the bits that must be zero; a lone address has no prefix length.
_HOST_BITS4 = {"": 0} | {str(length): (1 << 32 - length) - 1 for length in range(32)}
_HOST_BITS6 = {"": 0} | {str(length): (1 << 128 - length) - 1 for length in range(128)}


def counted_network(address: str, ipv6_prefix: int = IPV6_PREFIX, ipv4_prefix: int = 32) -> Network:
    """The network that a client at `address` is counted and banned as.

    Of an IPv4 or IPv4-mapped address the first `ipv4_prefix` bits count, by default all of them; of IPv6 the first
    `ipv6_prefix` bits. Zone ids, names, and any spelling that nginx does not write raise AddressError.
    """
    try:
        if ":" not in address:
            inet_pton(AF_INET, address)
            return Network(address) if ipv4_prefix == 32 else _wider(address, ipv4_prefix)
        packed = inet_pton(AF_INET6, address)
    except (OSError, ValueError) as error:
        raise AddressError(f"{address[:64]!r} is not an IP address") from error
    if inet_ntop(AF_INET6, packed) != address:
        raise AddressError(f"{address[:64]!r} is not how an IPv6 address is written (RFC 5952)")
    if packed[:12] == _MAPPED:
        return counted_network(inet_ntop(AF_INET, packed[12:]), ipv6_prefix, ipv4_prefix)
    if ipv6_prefix == 64:  # the default avoids the slow general way: this runs for every line
        return Network(inet_ntop(AF_INET6, packed[:8] + bytes(8)) + "/64")
    return _wider(address, ipv6_prefix)


def _wider(address: str, prefix: int) -> Network:
    return _text(ipaddress.ip_network(f"{address}/{prefix}", strict=False))


def wider(network: Network, length: int) -> Network:
    """The network of this prefix length around a network; its own is not shorter."""
    address, _, _ = network.partition("/")
    if ":" not in address:
        bits = int.from_bytes(inet_pton(AF_INET, address)) & (-1 << 32 - length)
        return Network(f"{inet_ntop(AF_INET, bits.to_bytes(4))}/{length}")
    bits = int.from_bytes(inet_pton(AF_INET6, address)) & (-1 << 128 - length)
    text = inet_ntop(AF_INET6, bits.to_bytes(16))
    return _wider(text, length) if "." in text else Network(f"{text}/{length}")  # ::192.0.2.0 is not how we write it


def block_of(network: Network) -> Network:
    """The IPv4 /24 or IPv6 /48 around a network, or the network itself if it is wider.

    Two failures from two blocks cost an attacker something, unlike two from one.
    """
    length = _BLOCK6 if is_ipv6(network) else _BLOCK4
    _, slash, own = network.partition("/")
    return network if slash and int(own) <= length else wider(network, length)


def parse_network(text: str) -> Network:
    """The canonical form of an address or CIDR; AddressError for names, zone ids, host bits and other spellings."""
    if _is_canonical(text):  # a ledger has a million of these, and the general way takes twenty times as long
        return Network(text)
    if "%" in text:
        raise AddressError(f"{text[:64]!r} has a zone id; write the address without it")
    try:
        return _text(ipaddress.ip_network(text))
    except ValueError as error:
        raise AddressError(f"{text[:64]!r} is not an IP address or CIDR network ({error})") from error


def _is_canonical(text: str) -> bool:
    """Whether the text is certainly in canonical form; for a few texts that are in it this is False."""
    address, slash, length = text.partition("/")
    if slash and not length:
        return False
    try:
        if ":" not in address:
            packed, host_bits = inet_pton(AF_INET, address), _HOST_BITS4[length]
        else:
            packed, host_bits = inet_pton(AF_INET6, address), _HOST_BITS6[length]
            if packed[:12] == _MAPPED or "." in address or inet_ntop(AF_INET6, packed) != address:
                return False
    except (OSError, ValueError, KeyError):
        return False
    return not host_bits or not int.from_bytes(packed) & host_bits


def is_ipv6(network: Network) -> bool:
    """Whether the network is of the IPv6 family."""
    return ":" in network


def too_wide(network: Network) -> bool:
    """Whether a ban of the network would hit a good part of the Internet: wider than an IPv4 /8 or an IPv6 /19."""
    _, _, prefix = network.partition("/")
    return bool(prefix) and int(prefix) < (19 if is_ipv6(network) else 8)


class NetworkSet:
    """A set that tells whether any of its networks overlaps a given one.

    That costs one dictionary lookup per distinct prefix length. Its networks never change.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        #: by version and number of host bits: the networks' numbers without these bits
        self._by_length: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        self._starts: dict[int, list[int]] = {4: [], 6: []}
        #: by version and number of host bits: the members' numbers without these bits; made when asked for
        self._inside: dict[tuple[int, int], set[int]] = {}
        for text in networks:
            member = ipaddress.ip_network(parse_network(text))
            shift = member.max_prefixlen - member.prefixlen
            self._by_length[member.version].setdefault(shift, set()).add(int(member.network_address) >> shift)
            self._starts[member.version].append(int(member.network_address))

    def overlaps(self, network: Network) -> bool:
        """Whether the network lies in a member, or a member in it: banning it would hit a member's address."""
        version = 6 if ":" in network else 4
        if not self._starts[version]:
            return False
        address, _, length = network.partition("/")
        number = int.from_bytes(inet_pton(AF_INET if version == 4 else AF_INET6, address))
        for shift, prefixes in self._by_length[version].items():
            if number >> shift in prefixes:
                return True
        if not length:
            return False
        shift = (32 if version == 4 else 128) - int(length)
        if (version, shift) not in self._inside:
            self._inside[version, shift] = {start >> shift for start in self._starts[version]}
        return number >> shift in self._inside[version, shift]


def _text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Network:
    mapped = network.network_address.ipv4_mapped if isinstance(network, ipaddress.IPv6Network) else None
    if mapped is not None and network.prefixlen >= 96:
        return _text(ipaddress.IPv4Network((mapped, network.prefixlen - 96), strict=False))
    if network.prefixlen == network.max_prefixlen:
        return Network(str(network.network_address))
    return Network(str(network))
