"""Deciding what the firewall must change. Pure: no clock, no socket, no Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.addresses import Network

#: The kernel counts timeouts in whole seconds, and reading a set takes time: a smaller difference is none, ms.
SLACK_MS = 3_000

#: The longest timeout that a set's element can have: 2,147,483 s, in ms (ipset(8), SET TYPES, timeout).
LONGEST_TIMEOUT_MS = 2_147_483_000


@dataclass(frozen=True, slots=True)
class Plan:
    """The change that makes the firewall agree with the ledger. Falsy when it already does."""

    add: Mapping[Network, int]  #: network -> its milliseconds left
    remove: frozenset[Network]

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def plan(desired: Mapping[Network, int], actual: Mapping[Network, int]) -> Plan:
    """The difference between two mappings of a network to its milliseconds left, read at the same instant.

    A ban with less than SLACK_MS to live is left to expire: the kernel may have ended it a moment before the ledger.
    """
    add: dict[Network, int] = {}
    for network, left_ms in desired.items():
        wanted = min(left_ms, LONGEST_TIMEOUT_MS)
        have = actual.get(network)
        if wanted > SLACK_MS if have is None else abs(wanted - have) > SLACK_MS:
            add[network] = left_ms
    return Plan(add, frozenset(n for n, left_ms in actual.items() if n not in desired and left_ms > SLACK_MS))
