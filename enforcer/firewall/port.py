"""The firewall port and its backends: what the agent asks of a kernel, and who does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from enforcer.reconcile import Plan
from shared.addresses import Network
from shared.errors import FirewallError

#: A set that is fuller than this gets a larger one, or where it may not grow, an alarm, percent.
CROWDED = 80


@dataclass(frozen=True, slots=True)
class Capacity:
    """How full a firewall is, and how it looks from afar."""

    bans: int  #: networks that it drops now
    size: int = 0  #: how many the fullest of its sets holds at most; 0 without a bound
    fill: int = 0  #: of the fullest of its sets, percent
    wanted: bool = False  #: whether `enlarge` would do something
    alarm: str = ""  #: that a set is crowded and may not grow, for the operator
    disturbed: bool = False  #: whether the rules look otherwise than `install` left them; false does not prove it


def check_scope(ports: Sequence[int] | Literal["all"], protocol: str, action: str) -> None:
    """FirewallError for what no backend can close."""
    if protocol not in ("tcp", "udp", "all"):
        raise FirewallError(f"[enforcer] protocol {protocol!r} is unknown; use tcp, udp or all")
    if action not in ("drop", "reject"):
        raise FirewallError(f"[enforcer] action {action!r} is unknown; use drop or reject")
    if ports != "all" and (protocol == "all" or not ports or not all(0 < port < 65536 for port in ports)):
        raise FirewallError(f'[enforcer] ports {ports} do not go with {protocol}; use 1-65535 of tcp or udp, or "all"')


class Firewall(Protocol):
    """What the agent asks of a firewall. Every verb is idempotent and raises FirewallError alone."""

    @property
    def name(self) -> str:
        """The backend's name, as in the setting [enforcer] backend."""

    def install(self) -> Sequence[str]:
        """Make sets, chain, rules and jumps stand as they should, without an open moment.

        Returns what had to be made or mended, a phrase each; empty when everything stood.
        """

    def members(self) -> Iterable[tuple[Network, int]]:
        """The networks that the kernel drops now, each with its milliseconds left at the moment it is read.

        Read from the kernel little by little: a million of them need no memory to speak of.
        """

    def bans(self) -> dict[Network, int]:
        """All `members` at once."""

    def capacity(self) -> Capacity:
        """How full the kernel's sets are, and whether its rules look disturbed. Cheap: it is asked every second."""

    def enlarge(self) -> Sequence[str]:
        """Put a larger set in the place of each that is crowded or smaller than the settings say, in one step.

        Returns what was made, a phrase each. Not to be called beside `apply`.
        """

    def apply(self, plan: Plan) -> int:
        """Make the change and see in the kernel that it is made, making it larger where that is allowed.

        Returns how many bans did not fit. Of several new ones, those that last longest go in; none that stands is
        put out for another.
        """

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
