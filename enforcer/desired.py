"""The bans that the firewall should hold. Pure: time is an argument, ms of a monotonic clock.

A ledger may have a million bans, so there is one dictionary of them and never a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from shared.addresses import Network


class Desired:
    """The networks that should be dropped, and until when.

    `orphans` are bans that the firewall holds and a new ledger does not know: they stay until they expire.
    """

    def __init__(self, exempt: Callable[[Network], str]) -> None:
        """`exempt` tells why a network must never be dropped, whatever the ledger says, or "" when it may be."""
        self._exempt = exempt
        self._ends: dict[Network, int] = {}
        self.orphans: set[Network] = set()

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def ends(self) -> Mapping[Network, int]:
        """Network -> the ms when its ban ends. Not a copy; `replace` puts another mapping in its place."""
        return self._ends

    def ban(self, network: Network, ttl_ms: int, now_ms: int) -> str:
        """Drop the network for this long. Returns "", or why it must not be dropped."""
        if why := self._exempt(network):
            return why
        self._ends[network] = now_ms + ttl_ms
        self.orphans.discard(network)
        return ""

    def unban(self, network: Network) -> None:
        """Drop the network no longer."""
        self._ends.pop(network, None)
        self.orphans.discard(network)

    def replace(self, bans: Iterable[tuple[Network, int]], now_ms: int, *, keep_lost: bool) -> tuple[int, int]:
        """Take over a whole ledger, pairs of network and ms left; what it lacks is removed, except orphans.

        With `keep_lost` all that it lacks becomes an orphan. Returns how many bans the ledger lacks that stay for
        this reason, and how many networks of it must not be dropped. When reading the ledger fails, no ban is removed.
        """
        before, self._ends = self._ends, {}
        exempt = 0
        try:
            for network, left_ms in bans:
                before.pop(network, None)  # at once, so that two ledgers need little more memory than one
                if self._exempt(network):
                    exempt += 1
                else:
                    self._ends[network] = now_ms + left_ms
        finally:
            lost = before  # by now only what the ledger lacks, or what had not been read when reading failed
            self._ends |= lost
        stay = lost.keys() if keep_lost else self.orphans & lost.keys()
        self.orphans = {n for n in stay if lost[n] > now_ms and not self._exempt(n)}
        for network in lost.keys() - self.orphans:
            del self._ends[network]
        return (len(self.orphans) if keep_lost else 0), exempt

    def keep(self, bans: Iterable[tuple[Network, int]]) -> int:
        """Keep bans of a ledger that is lost, pairs of network and its end in ms, unless a newer one knows them.

        Returns how many.
        """
        kept = 0
        for network, end_ms in bans:
            if network not in self._ends and not self._exempt(network):
                self.orphans.add(network)
                self._ends[network] = end_ms
                kept += 1
        return kept

    def forget_ended(self, now_ms: int) -> None:
        """Forget the bans that are over."""
        for network in [n for n, end_ms in self._ends.items() if end_ms <= now_ms]:
            self.unban(network)
