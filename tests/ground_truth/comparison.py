"""The node's records compared with the receiver's classes: every difference, with all facts of the request. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from receiver.lines.classify import Class, Line
from receiver.lines.rulebook import Reading, Rulebook
from shared.addresses import counted_network
from shared.settings import Settings
from tests.ground_truth.fronts import FRONTS, Front
from tests.ground_truth.requests import Request
from tests.ground_truth.truth import HUNG_UP, Record, Said, by_pinban, by_text, counted

_TAGGED = re.compile(rb"<190>.{15} (key|pexapp|appliance): (.*)", re.DOTALL)

_KEY = re.compile(rb"([0-9a-f]{32}) ([0-9]+) (.*)", re.DOTALL)

_NUMBERS = re.compile(rb'"s":"([0-9]{3})","us":"([^"]*)","l":"([^"]*)"')

_UNTOLD = re.compile(rb'"k":"unclear",.*"u":""', re.DOTALL)
_UNTOLD_END = re.compile(rb'"k":"unclear",.*"u":"[^"]*%0a', re.DOTALL | re.IGNORECASE)

#: The quotes within a text line are nginx's own: what a client writes has others.
_TEXT_NUMBERS = re.compile(rb'[^"]*"([^"]*)" ([0-9]{3}) ([0-9]+) "[^"]*" "[^"]*" "[^"]*" "([^"]*)" "[^"]*"')

#: What the appliance writes in the place of what it hides, in the path of a request; where a rewrite's "." stops.
_HIDDEN = re.compile(rb"[^?]*\[FILTERED\]")
_CUT = re.compile(rb"(?i)[^?]*%0a")

#: The payload of a UDP datagram, less what a text line has beside request, user and the two long headers, bytes.
_LONGEST = 65_507 - 400

#: Where a request is only known by its line.
_NO_READING = Reading(Line(Class.OTHER), None)

_BY_PORT = {port: front for front in FRONTS.values() for port in (front.http1, front.http2)}


#: What nginx writes about each request.
TEXTS = ("pexapp", "appliance")
FORMATS = ("pinban", *TEXTS)


@dataclass(frozen=True, slots=True)
class Sent:
    request: Request
    client: str  #: its address, before any balancer


@dataclass(frozen=True, slots=True)
class Logged:
    """A request that nginx has ended, by its key line."""

    id: str
    front: Front
    marker: str
    texts: Mapping[str, bytes]  #: its lines in the text formats; one that nginx could not send is missing


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
    guesses: Counter[str] = field(default_factory=Counter)  #: wrong PINs by the front that they came through
    lines: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in FORMATS})  #: by class
    hung_up: Counter[str] = field(default_factory=Counter)  #: pinban's lines with 499, by class
    unasked: int = 0  #: requests with a PIN that were reset before a node was asked
    two_pins: Counter[str] = field(default_factory=Counter)  #: requests with which a node got several, by front
    too_long: int = 0  #: text lines that fit no datagram
    differences: list[Difference] = field(default_factory=list)


class Comparison:
    """Keeps what was sent and seen while it compares."""

    def __init__(
        self,
        sent: Mapping[int, Sent],
        records: Iterable[Record],
        pinban: Iterable[bytes],
        texts: Iterable[bytes],
        *,
        joins: bool,
    ) -> None:
        """`joins` tells whether this nginx logs all headers of one name, as it does since 1.23."""
        self._sent = sent
        self._joins = joins
        self._read = Rulebook(Settings()).read
        self._records = {record.id: record for record in records}
        self._logged = {each.id: each for each in _grouped(texts)}
        self._lines: dict[str, tuple[bytes, Reading]] = {}
        self.outcome = Outcome(len(sent), len(self._logged), Counter(r.outcome for r in self._records.values()))
        for raw in pinban:
            self._take(raw)

    def run(self) -> Outcome:
        """Compare everything once."""
        for each in self._logged.values():
            record = self._records.get(each.id)
            if record:
                self.outcome.guesses[each.front.name] += record.outcome == "wrong"
                self.outcome.two_pins[each.front.name] += len(record.pins) > 1
            self._compare_pinban(each, record)
            for name in TEXTS:
                self._compare_text(name, each, record)
        for record in self._records.values():
            if record.id not in self._logged and not record.target.startswith("/_truth"):
                self._differ("nginx logged nothing for a request that the node answered", record.marker, record, None)
        return self.outcome

    def _take(self, raw: bytes) -> None:
        reading = self._read(raw)
        meaning, id_ = str(reading.line.meaning), reading.line.id
        self.outcome.lines["pinban"][meaning] += 1
        if (found := _NUMBERS.search(raw)) and found[1].decode() == HUNG_UP:
            self.outcome.hung_up[meaning] += 1
            self.outcome.unasked += b'"p":"1"' in raw and not found[2]
        if id_ not in self._logged:
            self._differ("a line of no request", "", None, raw)
        elif id_ in self._lines:
            self._differ("a second line of one request", self._logged[id_].marker, None, raw)
        else:
            self._lines[id_] = raw, reading

    def _compare_pinban(self, each: Logged, record: Record | None) -> None:
        raw, reading = self._lines.get(each.id, (b"", _NO_READING))
        untold = bool(_UNTOLD.search(raw))
        status, upstream, length = found.groups() if (found := _NUMBERS.search(raw)) else (b"", b"", b"")
        cut = bool(_UNTOLD_END.search(raw))
        said = Said(status.decode(), upstream.decode(), length.decode(), untold, cut)
        expected = by_pinban(record, said, each.front, joins=self._joins)
        named = bool(raw) and not untold and not cut and not (record and record.goes_back_over(each.front))
        if why := self._wrong(reading, expected, record, each, named=named, text=False):
            self._differ(f"pinban, {each.front.name}: {why}", each.marker, record, raw)

    def _compare_text(self, name: str, each: Logged, record: Record | None) -> None:
        sent = self._of(each.marker)
        raw = each.texts.get(name)
        if raw is None:
            self.outcome.too_long += 1
            if sent is None or _escaped(sent.request) < _LONGEST:
                self._differ(f"{name}: no line", each.marker, record, None)
            return
        reading = self._read(raw)
        self.outcome.lines[name][str(reading.line.meaning)] += 1
        numbers = _TEXT_NUMBERS.fullmatch(raw)
        asked, status, size, upstream = numbers.groups() if numbers else (b"", b"", b"", b"")
        other_size = sent is None or size == b"0" or bool(sent.request.leaving) or b"100-continue" in sent.request.raw
        hidden = bool(_HIDDEN.match(asked) or (each.front.rewritten and _CUT.match(asked)))
        said = Said(status.decode(), upstream.decode(), size.decode())
        expected = by_text(record, said, each.front, other_size=other_size, hidden=hidden)
        if why := self._wrong(reading, expected, record, each, named=not hidden, text=True):
            self._differ(f"{name}, {each.front.name}: {why}", each.marker, record, raw)

    def _wrong(
        self, reading: Reading, expected: set[str], record: Record | None, each: Logged, *, named: bool, text: bool
    ) -> str:
        """What is wrong with a reading, or ""; `named` tells whether the line says what was asked for."""
        line = reading.line
        if line.meaning not in expected:
            return f"{line.meaning} instead of {' or '.join(sorted(expected))}"
        rules = counted(record, line.meaning, text=text)
        if reading.rule not in rules:
            return f"rule {reading.rule} instead of {' or '.join(map(str, rules))}"
        if record is None:
            return ""
        if named and record.name and line.alias != record.name:
            return f"alias {line.alias!r} instead of {record.name!r}"
        if reading.rule and (network := self._network(each.marker)) not in (line.network, None):
            return f"{line.network} instead of {network}"
        return ""

    def _of(self, marker: str) -> Sent | None:
        return self._sent.get(int(marker)) if marker.isdecimal() and len(marker) < 10 else None

    def _network(self, marker: str) -> str | None:
        sent = self._of(marker)
        return counted_network(sent.client) if sent else None

    def _differ(self, why: str, marker: str, record: Record | None, line: bytes | None) -> None:
        self.outcome.differences.append(Difference(why, self._told(marker, record), record, line))

    def _told(self, marker: str, record: Record | None) -> str:
        """The request by its marker; when nginx did not read the marker as a header, those of the same target."""
        sent = self._of(marker)
        if sent:
            return f"{sent.request} from {sent.client}"
        target = record.target.encode("latin-1") if record else None
        alike = [s.request for s in self._sent.values() if target and target in s.request.raw]
        return " or ".join(map(str, alike[:3])) or "unknown"


def _grouped(datagrams: Iterable[bytes]) -> Iterator[Logged]:
    """Each key with the text lines after it, until the next key."""
    logged: Logged | None = None
    texts: dict[str, bytes] = {}
    for datagram in datagrams:
        tagged = _TAGGED.fullmatch(datagram)
        assert tagged, datagram
        if key := _KEY.fullmatch(tagged[2]) if tagged[1] == b"key" else None:
            if logged:
                yield logged
            texts = {}
            logged = Logged(key[1].decode(), _BY_PORT[int(key[2])], key[3].decode("latin-1"), texts)
        else:
            texts[tagged[1].decode()] = datagram
    if logged:
        yield logged


def _escaped(request: Request) -> int:
    """The longest that nginx can make the logged text of a request: four characters for a byte."""
    said = request.raw or b"".join(value for _, value in request.fields)
    return sum(4 if byte < 0x20 or byte > 0x7E or byte in b'"\\' else 1 for byte in said)
