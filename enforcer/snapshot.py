"""Reads the ledger in Redis: a snapshot, which events then continue. Writes nothing.

A ledger of up to PAGE bans is read in one MULTI. A longer one is read in pages of its ZSET by score, each with its
revision: docs/adr/0009-a-snapshot-in-pages.md says why nothing is lost between two pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.addresses import Network, parse_network
from shared.errors import AddressError, StoreError, StoreFullError
from shared.events import LONGEST_BAN_MS, Stamp
from shared.ledger import Entry, decode_entries
from shared.store import Command, Keys, Store, milliseconds, scored

#: Bans read in one round trip. Redis serves nobody else for the 2 ms that it needs for so many.
PAGE = 5_000

_REPLACED = "the ledger was replaced by another one while it was read"


@dataclass(slots=True)
class Snapshot:
    """The whole ledger at one instant; what changes while it is read comes as an event too."""

    stamp: Stamp  #: epoch "" and revision 0 while nobody has written to it
    bans: Iterable[tuple[Network, int]]  #: networks with their milliseconds left at `time_ms`; to be read once
    unreadable: int = 0  #: members that are no network of ours and were left out, as far as `bans` is read
    allowed: Sequence[Entry] = ()  #: the central allow-list
    time_ms: int = 0  #: Redis TIME of all this


def read_snapshot(store: Store) -> Snapshot:
    """Where the ledger is, with an iterator over its bans. StoreError when Redis fails, from the iterator too."""
    epoch, rev, members, time, allowed = _read(store, "-inf", PAGE, first=True)
    now_ms = milliseconds(time)
    snapshot = Snapshot(_stamp(store.keys, epoch, rev), (), 0, decode_entries(allowed, now_ms), now_ms)
    snapshot.bans = _bans(store, snapshot, scored(members))
    return snapshot


def _bans(store: Store, snapshot: Snapshot, members: list[tuple[bytes, int]]) -> Iterator[tuple[Network, int]]:
    """All bans, from the first page on."""
    asked, read = PAGE, snapshot.stamp
    while True:
        # The last score of a full page may go on in the next one, which therefore begins with it.
        end = members[-1][1] if len(members) == asked else None
        for member, until_ms in members:
            if until_ms != end:
                try:
                    network = parse_network(member.decode("ascii", "replace"))
                except AddressError:
                    snapshot.unreadable += 1
                    continue
                if until_ms > snapshot.time_ms:
                    yield network, min(until_ms - snapshot.time_ms, LONGEST_BAN_MS)
        if end is None:
            return
        asked = 2 * asked if members[0][1] == end else PAGE  # so many bans with one end that they fill a page
        epoch, rev, page = _read(store, end, asked)
        stamp = _stamp(store.keys, epoch, rev)
        if stamp.epoch != read.epoch or stamp.rev < read.rev:
            raise StoreError(_REPLACED)
        read, members = stamp, scored(page)


def _read(store: Store, start: int | str, most: int, *, first: bool = False) -> list[Any]:
    """Epoch, revision, a page of bans; of the first page also TIME and the allow-list. At one instant, if possible."""
    keys = store.keys
    commands: list[Command] = [
        ("GET", keys.epoch),
        ("GET", keys.rev),
        ("ZRANGE", keys.bans, start, "+inf", "BYSCORE", "LIMIT", 0, most, "WITHSCORES"),
    ]
    if first:
        commands += [("TIME",), ("HGETALL", keys.allow)]
    try:
        return store.whole(commands)
    except StoreFullError:
        # A full Redis refuses MULTI, even to read. The revision is read first: what changes after it is an event,
        # and to apply it once more does no harm. Only a change of the whole ledger would.
        *found, epoch = store.together([*commands, ("GET", keys.epoch)])
        if epoch != found[0]:
            raise StoreError(_REPLACED) from None
        return found


def _stamp(keys: Keys, epoch: bytes | None, rev: bytes | None) -> Stamp:
    try:
        return Stamp(epoch.decode("ascii", "replace") if epoch else "", int(rev or 0))
    except ValueError as error:
        found = (rev or b"")[:32]
        raise StoreError(f"{keys.rev} holds {found!r} instead of a number; delete it and {keys.epoch}") from error
