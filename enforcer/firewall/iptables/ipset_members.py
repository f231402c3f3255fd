"""Networks as members of sets: which may be one, of which family, and reading those that are. Changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from enforcer.firewall.iptables.ipset_command import read
from enforcer.reconcile import LONGEST_TIMEOUT_MS
from shared.addresses import Network, is_ipv6, parse_network
from shared.errors import AddressError, FirewallError

_MEMBER = re.compile(r"^add \S+ (\S+) timeout (\d+)\b(?! nomatch)", re.MULTILINE)


def family_of(network: Network) -> int:
    """4 or 6."""
    return 6 if is_ipv6(network) else 4


def members_of(name: str) -> Iterator[tuple[Network, int]]:
    """The members of a set, little by little, each with its milliseconds left; FirewallError if there is no such set.

    One without a timeout has LONGEST_TIMEOUT_MS.
    """
    for lines in read("save", name):
        for text, left_s in _MEMBER.findall(lines):
            # glibc writes the deprecated ::a.b.c.d where we write ::aabb:ccdd; all else is canonical already
            network = parse_network(text) if ":" in text and "." in text else Network(text)
            yield network, int(left_s) * 1000 or LONGEST_TIMEOUT_MS


def check(network: Network) -> None:
    """The border: what is not a network in canonical form never reaches ipset, which would ask DNS for it.

    FirewallError for that, and for everything at once (/0).
    """
    try:
        canonical = parse_network(network)
    except AddressError as error:
        raise FirewallError(f"not banned: {error}") from error
    if canonical != network or canonical.endswith("/0"):
        raise FirewallError(f"not banned: {network[:64]!r} has no place in a set; give a canonical network, not /0")
