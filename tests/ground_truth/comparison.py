"""The node's records compared with the receiver's classes: every difference, with all facts of the request. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from receiver.lines.classify import Class, Classifier, Line
from shared.addresses import counted_network
from shared.settings.schema import Receiver
from tests.ground_truth.requests import Request
from tests.ground_truth.truth import HUNG_UP, Record, by_pexapp, by_pinban

_KEY = re.compile(rb"<190>.{15} key: ([0-9a-f]{32}) (.*)", re.DOTALL)

_NUMBERS = re.compile(rb'"s":"([0-9]{3})","us":"[^"]*","l":"([^"]*)"')

_GUESS = re.compile(rb'"m":"POST","k":"conference",.*"us":"[^"]+",.*"p":"1"', re.DOTALL)

_PEXAPP_NUMBERS = re.compile(rb'" ([0-9]{3}) ([0-9]+) "')

#: The payload of a UDP datagram, less what a pexapp line has beside request, user and the two long headers, bytes.
_LONGEST = 65_507 - 400

_NO_LINE = b""


@dataclass(frozen=True, slots=True)
class Sent:
    request: Request
    source: str  #: the client's address


@dataclass(frozen=True, slots=True)
class Logged:
    """A request that nginx has ended, by its key line."""

    id: str
    marker: str
    pexapp: bytes | None  #: None when nginx could not send it


@dataclass(frozen=True, slots=True)
class Difference:
    """One failure of the test."""

    why: str
    sent: str
    record: Record | None
    line: bytes | None

    def __str__(self) -> str:
        return f"{self.why}\n  request: {self.sent[:3000]}\n  node: {self.record}\n  line: {self.line!r}"


@dataclass(slots=True)
class Outcome:
    """The result of a trial."""

    requests: int = 0  #: sent
    logged: int = 0  #: ended by nginx
    verdicts: Counter[str] = field(default_factory=Counter)  #: of the nodes
    pinban: Counter[str] = field(default_factory=Counter)  #: lines by class
    hung_up: Counter[str] = field(default_factory=Counter)  #: of these, those with 499
    pexapp: Counter[str] = field(default_factory=Counter)
    two_pins: int = 0  #: requests that brought a node more than one pin header
    too_long: int = 0  #: pexapp lines that fit no datagram
    differences: list[Difference] = field(default_factory=list)


class Comparison:
    """Keeps what was sent and seen while it compares."""

    def __init__(
        self,
        sent: Mapping[int, Sent],
        records: Iterable[Record],
        pinban: Iterable[bytes],
        pexapp: Iterable[bytes],
        *,
        joins: bool,
    ) -> None:
        """`joins` tells whether this nginx logs all headers of one name, as it does since 1.23."""
        self._sent = sent
        self._joins = joins
        self._classify = Classifier(Receiver()).classify
        self._records = {record.id: record for record in records}
        self._logged = {each.id: each for each in _pairs(pexapp)}
        self._lines: dict[str, tuple[bytes, Line]] = {}
        self.outcome = Outcome(len(sent), len(self._logged), Counter(r.outcome for r in self._records.values()))
        self.outcome.two_pins = sum(len(record.pins) > 1 for record in self._records.values())
        for raw in pinban:
            self._take(raw)

    def run(self) -> Outcome:
        """Compare everything once."""
        for each in self._logged.values():
            record = self._records.get(each.id)
            self._compare_pinban(each, record)
            self._compare_pexapp(each, record)
        for record in self._records.values():
            if record.id not in self._logged and not record.target.startswith("/_truth"):
                self._differ("nginx logged nothing for a request that the node answered", record.marker, record, None)
        return self.outcome

    def _take(self, raw: bytes) -> None:
        line = self._classify(raw)
        self.outcome.pinban[str(line.meaning)] += 1
        if (found := _NUMBERS.search(raw)) and found[1].decode() == HUNG_UP:
            self.outcome.hung_up[str(line.meaning)] += 1
        if line.id not in self._logged:
            self._differ("a line of no request", "", None, raw)
        elif line.id in self._lines:
            self._differ("a second line of one request", self._logged[line.id].marker, None, raw)
        else:
            self._lines[line.id] = raw, line

    def _compare_pinban(self, each: Logged, record: Record | None) -> None:
        raw, line = self._lines.get(each.id, (_NO_LINE, Line(Class.OTHER)))
        status, length = (found[1].decode(), found[2].decode()) if (found := _NUMBERS.search(raw)) else ("", "")
        expected = by_pinban(record, status, length, joins=self._joins)
        if record is None and status == HUNG_UP and _GUESS.search(raw):
            expected = {Class.WRONG_PIN}  # nginx says that it asked a node, which did not get to read it
        why = ""
        if line.meaning not in expected:
            why = f"{line.meaning if raw else 'no line'} instead of {' or '.join(sorted(expected))}"
        elif raw and record and record.name and line.alias != record.name:
            why = f"alias {line.alias!r} instead of {record.name!r}"
        elif raw and (network := self._network(each.marker)) not in (line.network, None):
            why = f"{line.network} instead of {network}"
        if why:
            self._differ(f"pinban: {why}", each.marker, record, raw)

    def _compare_pexapp(self, each: Logged, record: Record | None) -> None:
        sent = self._of(each.marker)
        if each.pexapp is None:
            self.outcome.too_long += 1
            if sent is None or _escaped(sent.request) < _LONGEST:
                self._differ("pexapp: no line", each.marker, record, None)
            return
        line = self._classify(each.pexapp)
        self.outcome.pexapp[str(line.meaning)] += 1
        numbers = _PEXAPP_NUMBERS.search(each.pexapp)
        status, size = (numbers[1].decode(), int(numbers[2])) if numbers else ("", 0)
        other_size = sent is None or size == 0 or bool(sent.request.leaving) or b"100-continue" in sent.request.raw
        expected = by_pexapp(record, status, other_size=other_size)
        why = ""
        if line.meaning not in expected:
            why = f"{line.meaning} instead of {' or '.join(sorted(expected))}"
        elif record and record.name and line.alias != record.name:
            why = f"alias {line.alias!r} instead of {record.name!r}"
        elif (network := self._network(each.marker)) not in (line.network, None):
            why = f"{line.network} instead of {network}"
        if why:
            self._differ(f"pexapp: {why}", each.marker, record, each.pexapp)

    def _of(self, marker: str) -> Sent | None:
        return self._sent.get(int(marker)) if marker.isdecimal() and len(marker) < 10 else None

    def _network(self, marker: str) -> str | None:
        sent = self._of(marker)
        return counted_network(sent.source) if sent else None

    def _differ(self, why: str, marker: str, record: Record | None, line: bytes | None) -> None:
        self.outcome.differences.append(Difference(why, self._told(marker, record), record, line))

    def _told(self, marker: str, record: Record | None) -> str:
        """The request by its marker; when nginx did not read the marker as a header, those of the same target."""
        sent = self._of(marker)
        if sent:
            return f"{sent.request} from {sent.source}"
        target = record.target.encode("latin-1") if record else None
        alike = [s.request for s in self._sent.values() if target and target in s.request.raw]
        return " or ".join(map(str, alike[:3])) or "unknown"


def _pairs(datagrams: Iterable[bytes]) -> Iterator[Logged]:
    """Each key with the pexapp line after it; the line is lost when another key follows at once."""
    key: re.Match[bytes] | None = None
    for datagram in (*datagrams, None):
        found = _KEY.fullmatch(datagram) if datagram else None
        if key and (found or datagram is None):
            yield Logged(key[1].decode(), key[2].decode("latin-1"), None)
        elif key:
            yield Logged(key[1].decode(), key[2].decode("latin-1"), datagram)
        key = found


def _escaped(request: Request) -> int:
    """The longest that nginx can make the logged text of a request: four characters for a byte."""
    said = request.raw or b"".join(value for _, value in request.fields)
    return sum(4 if byte < 0x20 or byte > 0x7E or byte in b'"\\' else 1 for byte in said)
