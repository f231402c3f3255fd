"""The bans that the firewall should hold. Pure: time is an argument, ms of a monotonic clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shared.addresses import Network


class Desired:
    """Who is to be dropped, and until when.

    `orphans` are bans that the firewall holds and a new ledger does not know: they stay until they expire.
    """

    def __init__(self, spared: Callable[[Network], str]) -> None:
        """`spared` tells why a network must never be dropped, whatever the ledger says, or "" when it may be."""
        self._spared = spared
        self._until: dict[Network, int] = {}
        self.orphans: set[Network] = set()

    def __len__(self) -> int:
        return len(self._until)

    def ban(self, network: Network, ttl_ms: int, now_ms: int) -> str:
        """Drop the network for this long; returns why not when it must not be dropped."""
        if why := self._spared(network):
            return why
        self._until[network] = now_ms + ttl_ms
        self.orphans.discard(network)
        return ""

    def unban(self, network: Network) -> None:
        """Drop the network no longer."""
        self._until.pop(network, None)
        self.orphans.discard(network)

    def replace(self, bans: Mapping[Network, int], now_ms: int) -> int:
        """Take over a whole ledger, network -> ms left; orphans stay. How many networks of it must not be dropped."""
        left = (n for n in self.orphans if n in self._until and n not in bans and not self._spared(n))
        orphans = {n: self._until[n] for n in left}
        self._until = {n: now_ms + left_ms for n, left_ms in bans.items() if not self._spared(n)}
        spared = len(bans) - len(self._until)
        self._until |= orphans
        self.orphans = set(orphans)
        return spared

    def keep(self, bans: Mapping[Network, int], now_ms: int) -> None:
        """Hold on to bans of a ledger that is lost, network -> ms left: the longer one wins."""
        for network, left_ms in bans.items():
            if self._spared(network):
                continue
            self.orphans.add(network)
            self._until[network] = max(self._until.get(network, 0), now_ms + left_ms)

    def left(self, now_ms: int) -> dict[Network, int]:
        """Network -> its milliseconds left; what is over is forgotten."""
        for network in [n for n, until in self._until.items() if until <= now_ms]:
            self.unban(network)
        return {network: until - now_ms for network, until in self._until.items()}
