"""What the arbiter makes once and every worker inherits: sockets and spool, beside the settings of the day."""

from __future__ import annotations

from dataclasses import dataclass
from socket import socket

from receiver.lines import Rulebook
from receiver.sockets import open_sockets
from receiver.spool import Spool
from shared.settings import Settings

#: Enough for two generations of the most workers there may be, beside each other during a reload, and for slots that
#: dead ones left to be emptied. Memory is taken only by slots in use, 20 KiB idle and up to 12 MiB in a flood.
_SLOTS = 40


@dataclass(slots=True)
class Inherited:
    """Shared by all workers of a receiver. Settings and rules change at a reload, the rest never does."""

    settings: Settings
    rulebook: Rulebook
    sockets: list[socket]
    spool: Spool


def open_inherited(settings: Settings) -> Inherited:
    """Bind the sockets and lay out the spool; SettingsError when an address is taken."""
    return Inherited(settings, Rulebook(settings), open_sockets(settings.receiver), Spool(_SLOTS))
