"""What the arbiter makes once and every worker inherits: sockets and spool; and the settings and rules now in force."""

from __future__ import annotations

from dataclasses import dataclass
from socket import socket

from receiver.lines import Rulebook
from receiver.sockets import open_sockets
from receiver.spool import Spool
from shared.settings import Settings

#: During a reload old and new workers run beside each other: enough for twice the most workers, and for slots that dead
#: workers left. Only slots in use take memory: 20 KiB when idle, up to 28 MiB in a
#: flood of everything, 12 MiB in one of prompts.
_SLOTS = 40


@dataclass(slots=True)
class Inherited:
    """Shared by all workers of a receiver. A reload replaces settings and rules; the rest never changes."""

    settings: Settings
    rulebook: Rulebook
    sockets: list[socket]
    spool: Spool


def open_inherited(settings: Settings) -> Inherited:
    """Bind the sockets and make the spool; SettingsError when a socket cannot be bound."""
    return Inherited(settings, Rulebook(settings), open_sockets(settings.receiver), Spool(_SLOTS))
