"""The firewall port: what the agent asks of any backend. No backend is in here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from enforcer.reconcile import Plan
from shared.addresses import Network
from shared.errors import FirewallError

#: A set that is fuller than this is replaced by a larger one; if it may not grow, there is an alarm. Percent.
CROWDED = 80


@dataclass(frozen=True, slots=True)
class Capacity:
    """How full a firewall is, and whether its rules seem to have changed."""

    bans: int  #: networks that it drops now
    size: int = 0  #: the most networks that its fullest set can hold; 0 if there is no limit
    fill: int = 0  #: how full its fullest set is, percent
    wanted: bool = False  #: whether `enlarge` would do something
    alarm: str = ""  #: for the operator: a set is crowded and may not grow
    disturbed: bool = False  #: the rules are not as `install` left them; some changes do not show here


def check_scope(ports: Sequence[int] | Literal["all"], protocol: str, action: str) -> None:
    """FirewallError for ports, a protocol or an action that no backend can do."""
    if protocol not in ("tcp", "udp", "all"):
        raise FirewallError(f"[enforcer] protocol {protocol!r} is unknown; use tcp, udp or all")
    if action not in ("drop", "reject"):
        raise FirewallError(f"[enforcer] action {action!r} is unknown; use drop or reject")
    if ports != "all" and (protocol == "all" or not ports or not all(0 < port < 65536 for port in ports)):
        raise FirewallError(
            f'[enforcer] ports {ports} cannot be used with protocol {protocol}; use 1-65535 of tcp or udp, or "all"'
        )


class Firewall(Protocol):
    """What the agent asks of a firewall. Every method is idempotent and raises no error but FirewallError."""

    @property
    def name(self) -> str:
        """The backend's name, as in the setting [enforcer] backend."""

    def install(self) -> Sequence[str]:
        """Make or repair sets, chain, rules and jumps. At no moment do packets of a banned client pass.

        Returns what had to be made or repaired, a phrase each; empty when nothing had to be.
        """

    def members(self) -> Iterable[tuple[Network, int]]:
        """The networks that the kernel drops now, each with its milliseconds left at the moment it is read.

        They are read from the kernel piece by piece: a million of them need little memory.
        """

    def bans(self) -> dict[Network, int]:
        """All `members` at once."""

    def capacity(self) -> Capacity:
        """How full the kernel's sets are, and whether its rules seem changed. Must be cheap: called every second."""

    def enlarge(self) -> Sequence[str]:
        """Replace each set that is crowded or smaller than the settings say by a larger one, in one step.

        Returns what was made, a phrase each. Must not run at the same time as `apply`.
        """

    def apply(self, plan: Plan) -> int:
        """Make the change and make sure that the kernel has it. A set that is too small grows, if that is allowed.

        Returns how many bans did not fit. Of several new bans, those that last longest are put in; no ban in a set is
        removed for another.
        """

    def ledger(self) -> str | None:
        """The epoch of the ledger that the kernel's bans agreed with last, or None.

        It is kept in the kernel beside the sets, so that it is lost exactly when they are lost.
        """

    def remember_ledger(self, epoch: str) -> None:
        """Set what `ledger` returns."""

    def disarm(self) -> None:
        """Remove all that the backend made: jumps, chains, rules, sets."""

    def close(self) -> None:
        """Close what the backend has open; the kernel goes on dropping."""
