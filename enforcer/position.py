"""Where the agent stands in the ledger, and what each event or snapshot means from there. Pure."""

from __future__ import annotations

from enum import Enum, auto

from shared.events import Allow, Event, Heartbeat, Hot, Question, Stamp


class Step(Enum):
    """What to do with an event."""

    APPLY = auto()  #: the next change
    IGNORE = auto()  #: known already, or a heartbeat that agrees
    RESYNC = auto()  #: something was missed, or this is another ledger


class Position:
    """The last change that is in the firewall."""

    def __init__(self) -> None:
        self.stamp: Stamp | None = None  #: None until the first snapshot

    def step(self, event: Event) -> Step:
        """What to do with an event; after APPLY, call `moved`."""
        if self.stamp is None or event.stamp.epoch != self.stamp.epoch:
            return Step.RESYNC
        ahead = event.stamp.rev - self.stamp.rev
        if isinstance(event, Heartbeat | Hot | Question):
            return Step.IGNORE if ahead <= 0 else Step.RESYNC
        if isinstance(event, Allow):
            return Step.RESYNC if ahead > 0 else Step.IGNORE
        if ahead == 1:
            return Step.APPLY
        return Step.IGNORE if ahead <= 0 else Step.RESYNC

    def moved(self, stamp: Stamp) -> None:
        """The firewall holds this change now."""
        self.stamp = stamp

    def trusts(self, snapshot: Stamp, kernel_epoch: str | None) -> bool:
        """Whether what a snapshot lacks was unbanned, and not lost.

        A ledger that is new to us, or older than what we have seen of it, has lost bans rather than ended them: an
        empty Redis, a replica that lagged behind. `kernel_epoch` is the epoch that the firewall last agreed with; it
        decides after a restart of the agent.
        """
        if self.stamp is None:
            return kernel_epoch == snapshot.epoch
        return snapshot.epoch == self.stamp.epoch and snapshot.rev >= self.stamp.rev
