"""From the lines of old logs to the events that replaying needs, and counts of everything that was read.

Few lines of a log matter. One pattern finds the lines of the text formats that surely mean `other`, and they are not
parsed. All others are read as the receiver reads them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from msgspec.structs import replace

from pinban.replay.count import Event
from receiver.lines import Class, Reading, Rulebook, line_time, local_time
from shared.addresses import NetworkSet, counted_network
from shared.errors import AddressError
from shared.settings import BUILT_IN, Rule, Settings, parse_ignored

#: A whole combined or pexapp line whose request is not POST, or whose path has no request_token in it and was not cut
#: by the appliance. Where a backslash or a percent sign could stand for a letter of either, the classifier decides; %40
#: is the @ of aliases.
_OTHER = re.compile(
    rb'([0-9A-Fa-f.:]{2,45}) - [^"\[\]]* \[([^"\[\]]{1,64})\] {1,2}'
    rb'"(?:(?!POST )[^"\\]*|POST (?![^"]*(?:(?i:request_token)|\[FILTERED\]))'
    rb'[^"\\%]*(?:%(?:[0-389A-Fa-f]|40)[^"\\%]*)*)" '
    rb"[0-9]{3} (?:[0-9]{1,15}|-) "
    rb'"[^"]*" "[^"]*"(?: "[^"]*" "[^"]*" "[^"]*")?[ \r\n]*'
)

#: The rule that is replayed: it counts wrong PINs.
RULE = "pin"

#: For how many addresses the answer is remembered whether they are ignored.
_REMEMBERED = 65_536


@dataclass(slots=True)
class Tally:
    """What was read so far."""

    lines: int = 0
    classes: Counter[Class] = field(default_factory=Counter)
    ignored: int = 0  #: failures that ignoreip or the rule's ignoreregex exempts
    untimed: int = 0  #: failures and joins whose line has no time: they are left out
    first: float | None = None  #: the earliest time on a line, seconds since the epoch
    last: float | None = None  #: the latest
    notes: list[str] = field(default_factory=list)  #: what a reader of the result must know

    def saw(self, at: float | None) -> None:
        """Make the time span include the time of a line."""
        if at is None:
            return
        if self.first is None or at < self.first:
            self.first = at
        if self.last is None or at > self.last:
            self.last = at


def surely_other(line: bytes) -> bytes | None:
    """The $time_local of a line that surely means `other`; None when only the classifier can tell."""
    found = _OTHER.fullmatch(line)
    return found[2] if found and _is_address(found[1]) else None


class Reader:
    """Reads logs, one after the other, and counts over all of them."""

    def __init__(self, settings: Settings) -> None:
        self.tally = Tally()
        self._read = Rulebook(_built_in_alone(settings)).read
        names = [text for text in settings.ignoreip if parse_ignored(text) is None]
        if names:
            self.tally.notes.append(f"ignoreip: {', '.join(names)}: names are not looked up, their lines count")
        # The host's own addresses play no part, whatever ignoreself says: the logs may be from another host.
        ignored = NetworkSet(text for text in settings.ignoreip if text not in names)
        self._ignored = lru_cache(_REMEMBERED)(ignored.overlaps)

    def events(self, name: str, batches: Iterable[Iterable[bytes]]) -> Iterator[Event]:
        """The wrong and the right PINs in the lines of one log; the tally counts as they are read."""
        tally = self.tally
        before = tally.lines, tally.classes[Class.MALFORMED]
        for batch in batches:
            for line in batch:
                tally.lines += 1
                local = surely_other(line)
                if local is not None:
                    tally.classes[Class.OTHER] += 1
                    tally.saw(local_time(local))
                    continue
                reading = self._read(line)
                meaning = reading.line.meaning
                tally.classes[meaning] += 1
                if meaning is Class.MALFORMED:
                    continue
                at = line_time(line)
                tally.saw(at)
                if meaning is Class.WRONG_PIN or meaning is Class.JOINED:
                    yield from self._event(reading, at)
        if tally.lines == before[0]:
            tally.notes.append(f"{name}: is empty")
        elif tally.lines - before[0] == tally.classes[Class.MALFORMED] - before[1]:
            tally.notes.append(f"{name}: no line is of a format that pinban reads; see what `pinban explain` says")

    def _event(self, reading: Reading, at: float | None) -> Iterator[Event]:
        line = reading.line
        assert line.network is not None
        joined = line.meaning is Class.JOINED
        if self._ignored(line.network) or (reading.rule != RULE and not joined):
            self.tally.ignored += not joined
        elif at is None:
            self.tally.untimed += 1
        else:
            yield Event(round(at * 1_000), line.network, line.alias or "", line.id, joined)


def _built_in_alone(settings: Settings) -> Settings:
    """With the rule enabled, because people replay before they enable it; and without the user's own rules."""
    rules = {name: rule for name, rule in settings.rules.items() if name in BUILT_IN}
    return replace(settings, rules={**rules, RULE: replace(rules.get(RULE, Rule()), enabled=True)})


@lru_cache(_REMEMBERED)
def _is_address(text: bytes) -> bool:
    try:
        counted_network(text.decode("ascii"))
    except AddressError:
        return False
    return True
