"""Who would have been banned: old failures, counted again under other limits. Pure: no clock, no file, no terminal.

    events, in any order -> one history per address -> for each pair of limits: its bans -> an Outcome

Each address is counted by itself, and its failures are sorted by time when all are known: files may come in any order
and lines may come late. This keeps some 20 bytes for each failure and 8 for each join, and nothing of other lines.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import msgspec

from shared.addresses import Network

#: A banned address is likely innocent when it joined between this long before its first failure, ms ...
JOINED_BEFORE_MS = 3_600_000

#: ... and this long after the ban, ms, ...
JOINED_AFTER_MS = 86_400_000

#: ... at least once for this many wrong PINs: 20 guesses find a PIN of four digits once in 500 times.
GUESSES_PER_JOIN = 20

#: Addresses that are listed one by one.
TOP = 10

#: Rooms named for each of them.
_ROOMS_NAMED = 3


class Event(msgspec.Struct, frozen=True):
    """A line that matters: a wrong PIN, or a right one."""

    at_ms: int  #: since the epoch, by the log's own time
    network: Network
    room: str = ""
    id: str = ""  #: of the request, or "": the same id is the same failure
    joined: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """How many failures in which time are a ban."""

    maxretry: int
    findtime_ms: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pair of limits would have done."""

    limits: Limits
    bans: int
    addresses: int  #: how many different ones were banned
    rooms: int  #: how many different ones these addresses tried
    stopped: int  #: failures during a ban
    innocent: int  #: how many of the addresses belong to people who know a PIN


@dataclass(frozen=True, slots=True)
class Tried:
    """One address and what it did in the whole log."""

    network: Network
    failures: int
    rooms: int
    named: tuple[str, ...]  #: the rooms it tried most
    joins: int


@dataclass(frozen=True, slots=True)
class Replay:
    """The whole result of replaying old logs."""

    outcomes: tuple[Outcome, ...]  #: in the grid's order
    top: tuple[Tried, ...]  #: those with the most failures
    addresses: int  #: those with a failure
    failures: int
    repeated: int  #: failures whose id had come before


class Spell(NamedTuple):
    """One ban, as indices into an address's failures in order of time."""

    first: int  #: the oldest that counted towards it
    last: int  #: the one that made it
    end: int  #: the first after it


class _History:
    """What one address did."""

    __slots__ = ("ids", "joins", "rooms", "times")

    def __init__(self) -> None:
        self.times = array("q")
        self.rooms = array("L")
        self.ids = array("q")  #: hashes of 64 bits, which two requests of one address practically never share
        self.joins = array("q")

    def settle(self) -> int:
        """Sort everything by time and keep each failure once; returns how many were repeats."""
        self.joins = array("q", sorted(self.joins))
        times, ids = self.times, self.ids
        order: Sequence[int] = range(len(times))
        if any(later < earlier for earlier, later in pairwise(times)):
            order = sorted(order, key=times.__getitem__)
        earliest: dict[int, int] = {}
        kept = [i for i in order if not ids[i] or earliest.setdefault(ids[i], i) == i]
        self.times = array("q", [times[i] for i in kept])
        self.rooms = array("L", [self.rooms[i] for i in kept])
        self.ids = array("q")
        return len(order) - len(kept)


def replay(events: Iterable[Event], grid: Sequence[Limits], bantime_ms: int) -> Replay:
    """What each pair of limits would have done with these events, which may come in any order."""
    histories: dict[Network, _History] = {}
    rooms: dict[str, int] = {}
    for event in events:
        history = histories.get(event.network)
        if history is None:
            history = histories[event.network] = _History()
        if event.joined:
            history.joins.append(event.at_ms)
            continue
        history.times.append(event.at_ms)
        history.rooms.append(rooms.setdefault(event.room, len(rooms)))
        history.ids.append((hash(event.id) or 1) if event.id else 0)
    failed = {network: history for network, history in histories.items() if history.times}
    repeated = sum(history.settle() for history in failed.values())
    most = sorted(failed, key=lambda network: (-len(failed[network].times), network))[:TOP]
    names = list(rooms)
    return Replay(
        tuple(_outcome(failed.values(), limits, bantime_ms) for limits in grid),
        tuple(_tried(network, failed[network], names) for network in most),
        len(failed),
        sum(len(history.times) for history in failed.values()),
        repeated,
    )


def spells(times: Sequence[int], limits: Limits, bantime_ms: int) -> Iterator[Spell]:
    """The bans that failures at these times, in order, lead to.

    As receiver.store counts and the ledger bans: a failure counts from its own moment until just before findtime has
    passed, a ban stands until just before bantime has passed, and failures during a ban count towards no other ban.
    """
    before = limits.maxretry - 1
    last = before
    while last < len(times):
        if times[last] - times[last - before] < limits.findtime_ms:
            end = bisect_left(times, times[last] + bantime_ms, last + 1)
            yield Spell(last - before, last, end)
            last = end + before
        else:
            last += 1


def likely_innocent(failures: int, joins: int) -> bool:
    """Whether somebody with so many joins and so many wrong PINs knows a PIN."""
    return joins > 0 and failures <= joins * GUESSES_PER_JOIN


def _outcome(histories: Iterable[_History], limits: Limits, bantime_ms: int) -> Outcome:
    bans = addresses = stopped = innocent = 0
    rooms: set[int] = set()
    for history in histories:
        found = list(spells(history.times, limits, bantime_ms))
        if not found:
            continue
        bans += len(found)
        addresses += 1
        rooms.update(history.rooms)
        stopped += sum(spell.end - spell.last - 1 for spell in found)
        innocent += bool(history.joins) and any(_hit_somebody(history, spell) for spell in found)
    return Outcome(limits, bans, addresses, len(rooms), stopped, innocent)


def _hit_somebody(history: _History, spell: Spell) -> bool:
    begin = history.times[spell.first] - JOINED_BEFORE_MS
    end = history.times[spell.last] + JOINED_AFTER_MS
    return likely_innocent(_between(history.times, begin, end), _between(history.joins, begin, end))


def _between(times: Sequence[int], begin: int, end: int) -> int:
    return bisect_right(times, end) - bisect_left(times, begin)


def _tried(network: Network, history: _History, names: Sequence[str]) -> Tried:
    rooms = Counter(history.rooms)
    named = tuple(names[room] for room, _ in rooms.most_common(_ROOMS_NAMED))
    return Tried(network, len(history.times), len(rooms), named, len(history.joins))
