"""What to believe of a ban's evidence when the log lines in it may be forged. Pure: no clock, no Redis.

A doubted sender's line is real if a kernel knows that its client had a connection: nobody forges that from afar. It is
forged if the RP that it is said to come from looked all of the time and saw no such client.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto

SEEN, UNSEEN = "seen", "unseen"


class Belief(Enum):
    """What is to be done with a ban."""

    REAL = auto()  #: ban
    FORGED = auto()  #: only simulate
    UNKNOWN = auto()  #: ban briefly: a forger may be behind it, but a guesser may be too


@dataclass(frozen=True, slots=True)
class Rp:
    """An enforcer that can be a witness, as its node's hash describes it."""

    name: str
    addresses: frozenset[str]  #: of its host, says its own account; it may lie
    alive: bool


def believe(
    doubted: Collection[str], rps: Iterable[Rp], answers: Mapping[str, str], *, waited: bool = False
) -> Belief | None:
    """What to believe of evidence with lines of these doubted senders; None to wait for more answers.

    `answers` are by RP. One "seen" is enough, whoever says it: whose account is stolen could send real lines too. An
    "unseen" only counts for a sender if all RPs say it that own, or say that they own, its address: nobody can deny
    another RP's lines. Of a sender whose address no RP owns, all that are alive must say it: behind NAT it may be any
    of them, and where no enforcer lives a ban drops nobody. With `waited` it is decided now.
    """
    rps = list(rps)
    if SEEN in answers.values():
        return Belief.REAL
    alive = [rp.name for rp in rps if rp.alive]
    owners = [[rp.name for rp in rps if sender in rp.addresses] or alive for sender in doubted]
    if all(names and all(answers.get(name) == UNSEEN for name in names) for names in owners):
        return Belief.FORGED
    if waited or all(name in answers for name in alive):
        return Belief.UNKNOWN
    return None
