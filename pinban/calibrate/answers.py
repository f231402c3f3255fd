"""From the lines of old logs to the answers that calibrating needs, read by the receiver's own parser."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pinban.calibrate.evidence import Answer
from pinban.replay import surely_other
from receiver.lines import Fields, line_time, parse_message
from shared.addresses import counted_network
from shared.errors import AddressError
from shared.settings import Settings

#: Addresses that one person may change between at will are one source: prefix lengths of IPv6 and IPv4.
_SOURCE = 48, 24


@dataclass(slots=True)
class Reader:
    """Reads logs, one after the other, and counts over all of them."""

    settings: Settings
    lines: int = 0
    refusals: int = 0  #: 403s of a node to a request for a conference's token
    joins: int = 0  #: 200s with a PIN, or of a format that does not tell
    sizeless: int = 0  #: refusals whose line has no size: they are left out
    untimed: int = 0  #: answers whose line has no time: nothing can be said of what came before or after
    notes: list[str] = field(default_factory=list)  #: what a reader of the result must know

    def answers(self, name: str, batches: Iterable[Iterable[bytes]]) -> Iterator[Answer]:
        """The refusals and joins in the lines of one log."""
        lines = known = 0
        for batch in batches:
            for line in batch:
                lines += 1
                if surely_other(line) is not None:
                    known += 1
                    continue
                fields = parse_message(line)
                if fields is None:
                    continue
                known += 1
                answer = self._answer(fields, line)
                if answer is not None:
                    yield answer
        self.lines += lines
        if not known:
            self.notes.append(f"{name}: no line is of a format that pinban reads; see what `pinban explain` says")

    def _answer(self, fields: Fields, line: bytes) -> Answer | None:
        if not (fields.post and fields.asked and fields.kind == "conference"):
            return None
        joined = fields.status == 200 and fields.pin in ("1", None)
        if not joined and fields.status != 403:
            return None
        try:
            network = counted_network(fields.address, self.settings.ipv6_prefix, self.settings.ipv4_prefix)
            source = counted_network(fields.address, *_SOURCE)
        except AddressError:
            return None
        self.joins += joined
        self.refusals += not joined
        if not joined and fields.length is None:
            self.sizeless += 1
            return None
        at = line_time(line)
        self.untimed += at is None
        return Answer(
            round(at * 1_000) if at is not None else None,
            network,
            source,
            (fields.alias or "").strip().lower(),
            None if joined else fields.length,
            fields.pin,
        )
