"""Networks as text and as the bytes that a kernel set keeps, for both backends. Does not ask the kernel."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from shared.addresses import Network, is_ipv6, parse_network
from shared.errors import AddressError, FirewallError

#: Bytes of an address, by family.
KEY_BYTES = {4: 4, 6: 16}

_SOCKET_FAMILIES = {4: AF_INET, 6: AF_INET6}


def checked(network: Network) -> Network:
    """The same network; FirewallError if it is not in canonical form, or is all addresses (/0)."""
    try:
        canonical = parse_network(network)
    except AddressError as error:
        raise FirewallError(f"not banned: {error}") from error
    if canonical != network or canonical.endswith("/0"):
        raise FirewallError(f"not banned: {network[:64]!r} cannot be in a set; give a canonical network, not /0")
    return network


def family_of(network: Network) -> int:
    """4 or 6."""
    return 6 if is_ipv6(network) else 4


def key_of(network: Network) -> tuple[int, int, bytes]:
    """Family, prefix length and first address of a canonical network."""
    address, _, length = network.partition("/")
    family = family_of(network)
    return family, int(length or 8 * KEY_BYTES[family]), inet_pton(_SOCKET_FAMILIES[family], address)


def network_of(key: bytes, family: int, length: int) -> Network:
    """The inverse of `key_of`."""
    text = inet_ntop(_SOCKET_FAMILIES[family], key) + ("" if length == 8 * KEY_BYTES[family] else f"/{length}")
    # glibc writes the deprecated ::a.b.c.d where we write ::aabb:ccdd; all else is canonical already
    return parse_network(text) if family == 6 and "." in text else Network(text)
