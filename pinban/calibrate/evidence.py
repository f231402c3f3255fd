"""What a log shows about each size of a refusal, in numbers. Pure: no clock, no file, no terminal.

    answers, in any order -> one history per address and room -> evidence for each size

A guesser writes as many lines of a log as he likes, so no number of lines says what a size means. What he cannot write
is how other people join: whether they needed this answer before they came in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from shared.addresses import Network

#: What an answer leads to must follow within this, ms.
AFTERWARDS_MS = 60_000

#: A room says something when people joined it so often.
BUSY_JOINS = 5

#: Of the joins, the part that comes after an answer that everybody gets; and the most after a wrong PIN.
NEARLY_ALL, HALF = 0.8, 0.5


class Answer(NamedTuple):
    """A conference node's answer to a request for a conference's token: a refusal, or a join."""

    at_ms: int | None  #: by the log's own time; None: the line has none
    network: Network  #: as it is counted
    source: Network  #: the network that one person may have for himself
    room: str
    size: int | None  #: of the refusal, bytes; None: a join
    pin: str | None  #: "1" a PIN was sent, "0" or "n" none, None: the line does not say


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a log shows about one size."""

    size: int  #: bytes
    lines: int
    addresses: int
    sources: int  #: networks that one person may have for himself
    rooms: int
    with_pin: int  #: lines
    without_pin: int
    pin_unknown: int
    joined_after: int  #: lines after which the same address joined the same room
    refused_after: int  #: lines after which the same address had a PIN refused on the same room
    busy_rooms: int  #: rooms with this answer that people joined often
    joins: int  #: on the busy rooms
    joins_after: int  #: of these, how many came shortly after this answer
    rooms_after: int  #: busy rooms where nearly all joins did
    rooms_apart: int  #: busy rooms where most did not
    join_sources: int  #: sources of all these joins


@dataclass(slots=True)
class _Size:
    """What is known of one size while it is counted."""

    lines: int = 0
    pins: dict[str | None, int] = field(default_factory=lambda: defaultdict(int))
    addresses: set[Network] = field(default_factory=set)
    sources: set[Network] = field(default_factory=set)
    rooms: set[str] = field(default_factory=set)
    joined_after: int = 0
    refused_after: int = 0
    led_to: dict[str, int] = field(default_factory=lambda: defaultdict(int))  #: room -> joins that came after it


@dataclass(slots=True)
class _Joins:
    """Who joined one room."""

    count: int = 0
    sources: set[Network] = field(default_factory=set)


def evidence_of(answers: Iterable[Answer]) -> list[Evidence]:
    """The evidence for each size, by size."""
    sizes: dict[int, _Size] = defaultdict(_Size)
    rooms: dict[str, _Joins] = defaultdict(_Joins)
    histories: dict[tuple[Network, str], list[Answer]] = defaultdict(list)
    for answer in answers:
        if answer.at_ms is not None:
            histories[answer.network, answer.room].append(answer)
        if answer.size is not None:
            seen = sizes[answer.size]
            seen.lines += 1
            seen.pins[answer.pin] += 1
            seen.addresses.add(answer.network)
            seen.sources.add(answer.source)
            seen.rooms.add(answer.room)
        elif answer.at_ms is not None:
            rooms[answer.room].count += 1
            rooms[answer.room].sources.add(answer.source)
    for history in histories.values():
        _follow(sorted(history, key=lambda each: each.at_ms or 0), sizes)
    return [_evidence(size, sizes[size], rooms) for size in sorted(sizes)]


def _follow(history: list[Answer], sizes: dict[int, _Size]) -> None:
    """Count what came after what, for one address on one room; answers in order of time."""
    before: dict[int, int] = {}  #: size -> when it last came
    for answer in history:
        at = answer.at_ms or 0
        if answer.size is not None:
            before[answer.size] = at
            continue
        for size, came in before.items():
            if at - came <= AFTERWARDS_MS:
                sizes[size].led_to[answer.room] += 1
    joined = refused = float("inf")
    for answer in reversed(history):
        at = answer.at_ms or 0
        if answer.size is None:
            joined = at
            continue
        sizes[answer.size].joined_after += joined - at <= AFTERWARDS_MS
        sizes[answer.size].refused_after += refused - at <= AFTERWARDS_MS
        if answer.pin == "1":
            refused = at


def _evidence(size: int, seen: _Size, rooms: dict[str, _Joins]) -> Evidence:
    busy = [room for room in seen.rooms if room in rooms and rooms[room].count >= BUSY_JOINS]
    return Evidence(
        size=size,
        lines=seen.lines,
        addresses=len(seen.addresses),
        sources=len(seen.sources),
        rooms=len(seen.rooms),
        with_pin=seen.pins["1"],
        without_pin=seen.pins["0"] + seen.pins["n"],
        pin_unknown=seen.pins[None],
        joined_after=seen.joined_after,
        refused_after=seen.refused_after,
        busy_rooms=len(busy),
        joins=sum(rooms[room].count for room in busy),
        joins_after=sum(seen.led_to[room] for room in busy),
        rooms_after=sum(seen.led_to[room] >= NEARLY_ALL * rooms[room].count for room in busy),
        rooms_apart=sum(seen.led_to[room] < HALF * rooms[room].count for room in busy),
        join_sources=len(set().union(*(rooms[room].sources for room in busy))),
    )
