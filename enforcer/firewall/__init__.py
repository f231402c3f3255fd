"""The firewall port and its backends: what the agent asks of a kernel, and who does it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from enforcer.reconcile import Plan
from shared.addresses import Network


class Firewall(Protocol):
    """What the agent asks of a firewall. Every verb is idempotent and raises FirewallError alone."""

    @property
    def name(self) -> str:
        """The backend's name, as in the setting [enforcer] backend."""

    def install(self) -> Sequence[str]:
        """Make sets, chain, rules and jumps stand as they should, without an open moment.

        Returns what had to be made or mended, a phrase each; empty when everything stood.
        """

    def bans(self) -> dict[Network, int]:
        """The networks that the kernel drops now, each with its milliseconds left."""

    def count(self) -> int:
        """How many networks the kernel drops now."""

    def apply(self, plan: Plan) -> None:
        """Make the change and see in the kernel that it is made."""

    def ledger(self) -> str | None:
        """The epoch of the ledger that the kernel's bans were last made to agree with, or None.

        Kept in the kernel beside the sets, so that it lives exactly as long as they do.
        """

    def remember_ledger(self, epoch: str) -> None:
        """Set what `ledger` returns."""

    def disarm(self) -> None:
        """Remove every trace: jumps, chains, rules, sets."""

    def close(self) -> None:
        """Release what the backend holds open; protection stays in place."""
