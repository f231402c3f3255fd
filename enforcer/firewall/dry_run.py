"""The backend dry-run: logs what would be dropped and drops nothing. Does not use the kernel; keeps bans in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import islice

from enforcer.firewall.networks import checked
from enforcer.firewall.port import Capacity
from enforcer.reconcile import LONGEST_TIMEOUT_MS, Plan
from shared.addresses import Network
from shared.errors import FirewallError

#: The most networks that one line of the log names.
_NAMED = 5

_log = logging.getLogger("pinban.enforcer")


class DryRunFirewall:
    """Implements Firewall, also the expiry in whole seconds, but drops no packet."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[Network, float] | None = None  #: the clock's s at which each ban ends; None before install
        self._epoch: str | None = None

    @property
    def name(self) -> str:
        """The backend's name in [enforcer] backend."""
        return "dry-run"

    def install(self) -> Sequence[str]:
        """Start to keep bans in memory; only the first call returns a phrase."""
        if self._ends is not None:
            return []
        self._ends = {}
        _log.info("dry run: would make sets, chain, rules and jumps")
        return ["dry run"]

    def members(self) -> Iterable[tuple[Network, int]]:
        """The networks that would be dropped now, each with its milliseconds left; FirewallError before install."""
        return self.bans().items()

    def bans(self) -> dict[Network, int]:
        """All `members` at once."""
        now = self._clock()
        ends = self._standing()
        for network in [n for n, end in ends.items() if end <= now]:
            del ends[network]
        return {network: int((end - now) * 1000) for network, end in ends.items()}

    def capacity(self) -> Capacity:
        """How many networks would be dropped now; there is no limit. FirewallError before install."""
        return Capacity(len(self.bans()))

    def enlarge(self) -> Sequence[str]:
        """Nothing to enlarge."""
        return []

    def apply(self, plan: Plan) -> int:
        """Keep the change and log it; FirewallError before install, and for what a kernel set would refuse."""
        ends, now = self._standing(), self._clock()
        for network in (*plan.add, *plan.remove):
            checked(network)
        for network in plan.remove:
            ends.pop(network, None)
        for network, left_ms in plan.add.items():
            ends.pop(network, None)
            if left_ms >= 1000:
                ends[network] = now + min(left_ms, LONGEST_TIMEOUT_MS) // 1000
        if plan.remove:
            _log.info("dry run: would no longer drop %s", _some(plan.remove))
        if plan.add:
            _log.info("dry run: would drop %s", _some(plan.add, lambda n: f"{n} for {plan.add[n] // 1000} s"))
        return 0

    def ledger(self) -> str | None:
        """The epoch that `remember_ledger` got last, or None."""
        return self._epoch

    def remember_ledger(self, epoch: str) -> None:
        """Set what `ledger` returns."""
        self._epoch = epoch

    def disarm(self) -> None:
        """Delete all bans and the epoch."""
        self._ends = self._epoch = None
        _log.info("dry run: would remove jumps, chain, rules and sets")

    def close(self) -> None:
        """Nothing is held open."""

    def _standing(self) -> dict[Network, float]:
        if self._ends is None:
            raise FirewallError("nothing is installed; the enforcer installs it at its next check")
        return self._ends


def _some(networks: Collection[Network], shown: Callable[[Network], str] = str) -> str:
    named = ", ".join(shown(network) for network in islice(networks, _NAMED))
    return named if len(networks) <= _NAMED else f"{named} and {len(networks) - _NAMED} more"
