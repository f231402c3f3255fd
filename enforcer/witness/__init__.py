"""What this host's kernel knows of its clients' connections, for receivers that doubt a log.

question ─▶ Witness (thread) ◀─ sockets (netlink) ─▶ Peers        Witness ─▶ the answer, in a hash of this RP's own
"""

from enforcer.witness.witness import Witness

__all__ = [
    "Witness",
]
