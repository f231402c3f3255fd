"""Decides what the firewall must change. Pure: no socket, no Redis; the clock is an argument."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass

from shared.addresses import Network

#: The kernel counts timeouts in whole seconds, and reading a set takes time: a smaller difference does not matter, ms.
SLACK_MS = 3_000

#: The longest timeout that a set's element can have: 2,147,483 s, in ms (ipset(8), SET TYPES, timeout).
LONGEST_TIMEOUT_MS = 2_147_483_000

#: A ban that is longer than the kernel can count gets the longest timeout again when this much is left of it, ms.
RENEW_MS = LONGEST_TIMEOUT_MS // 2


@dataclass(frozen=True, slots=True)
class Plan:
    """The change that makes the firewall agree with the ledger. Falsy when it already does."""

    add: Mapping[Network, int]  #: network -> its milliseconds left
    remove: frozenset[Network]
    renewals: int = 0  #: how many of `add` are not wrong, and only get the longest timeout again

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)

    @property
    def repairs(self) -> int:
        """How many differences something else must have made."""
        return len(self.add) + len(self.remove) - self.renewals

    def without(self, networks: Set[Network]) -> Plan:
        """The same change without these networks."""
        if not networks:
            return self
        add = {network: left_ms for network, left_ms in self.add.items() if network not in networks}
        return Plan(add, self.remove - networks, min(self.renewals, len(add)))


def zero() -> int:
    """The clock for comparing times left instead of ends."""
    return 0


def plan(
    desired: Mapping[Network, int], actual: Iterable[tuple[Network, int]], clock_ms: Callable[[], int] = zero
) -> Plan:
    """The difference between two sets of networks, each with its end in ms by this clock.

    `actual` is read once, in any order, and need not fit into memory. A ban with less than SLACK_MS to live is left to
    expire: the kernel may have ended it a moment before the ledger.
    """
    now_ms = clock_ms()
    wrong: set[Network] = set()
    foreign: set[Network] = set()
    renewals = 0
    missing = set(desired)
    for network, end_ms in actual:
        missing.discard(network)
        wanted_ms = desired.get(network)
        if wanted_ms is None:
            if end_ms - now_ms > SLACK_MS:
                foreign.add(network)
        elif abs(wanted_ms - end_ms) <= SLACK_MS:
            continue
        elif wanted_ms - now_ms <= LONGEST_TIMEOUT_MS:
            wrong.add(network)
        elif end_ms - now_ms < RENEW_MS:
            wrong.add(network)
            renewals += 1
    now_ms = clock_ms()  # reading may have taken seconds
    add: dict[Network, int] = {}
    for networks, least_ms in ((wrong, -1), (missing, SLACK_MS)):
        for network in networks:
            end = desired.get(network)
            if end is not None and end - now_ms > least_ms:
                add[network] = end - now_ms
    return Plan(add, frozenset(foreign), renewals)
