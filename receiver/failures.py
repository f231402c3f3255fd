"""A failure on its way from the log line to the counter: the value, and its bytes in the spool. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import msgpack

from shared.addresses import Network
from shared.settings import Level

#: Longest request id that is kept; nginx's has 32 characters.
LONGEST_ID = 64

#: Characters of an alias that the evidence keeps.
LONGEST_EVIDENCE = 64


@dataclass(frozen=True, slots=True)
class Failure:
    """One line that a rule counts."""

    network: Network
    rule: str
    id: str  #: the same id is the same failure, however often it arrives
    rp: str  #: who sent the line: its address, or "local"
    alias: str  #: the conference that was tried
    received_ms: int  #: by the host's monotonic clock, which all workers share
    joined: bool = False  #: not a failure: a right PIN
    levels: tuple[int, ...] = ()  #: prefix lengths of the wider networks around `network` in which it counts too
    copy: str = ""  #: names this arrival, when `id` was made from the text of the line; else ""
    took_ms: int = -1  #: from the request's first byte until the line; -1: the line does not say

    @property
    def evidence(self) -> str:
        """RP and alias, for people, with one space between them; neither has one in it after `unpack`."""
        return f"{self.rp} {self.alias}"


@dataclass(frozen=True, slots=True)
class Counted:
    """How many failures a network has in one window of a rule."""

    network: Network
    rule: str  #: with LONG behind it for the rule's long window
    count: int  #: failures in the window, at most as many as it keeps
    evidence: tuple[str, ...] = ()  #: at the limit: each failure as "id rp alias ms", ms of Redis TIME
    level: Level | None = None  #: of a wider network, with the client before the ms in its evidence
    joined: int = 0  #: how many clients in a wider network have joined lately


def room_of(alias: str) -> str:
    """The room that an alias names: its domain is cut, because a node with a domain of its own may take `meet` and
    `meet@example.org` for one room. A brace would be read as a key's hash tag.
    """
    name = alias.partition("@")[0] or alias
    return name.replace("{", "_").replace("}", "_")


def pack(failure: Failure) -> bytes:
    """At most receiver.spool.RECORD_BYTES bytes."""
    packed: bytes = msgpack.packb(
        (
            failure.network,
            failure.rule,
            _word(failure.id.encode("ascii", "replace").decode(), LONGEST_ID),
            failure.rp,
            _word(failure.alias, LONGEST_EVIDENCE),
            failure.received_ms,
            failure.joined,
            failure.levels,
            failure.copy,
            failure.took_ms,
        )
    )
    return packed


def unpack(data: bytes) -> Failure:
    """The inverse of pack."""
    return Failure(*msgpack.unpackb(data, use_list=False))


def _word(text: str, longest: int) -> str:
    """Printable, without spaces and braces: for terminals, between spaces, and within a key's hash tag."""
    return "".join(c if c.isprintable() and c not in " {}" else "_" for c in text[:longest])
