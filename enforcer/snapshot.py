"""Reading the ledger in Redis: a snapshot to follow on from. Writes nothing.

A ledger of up to PAGE bans is read in one MULTI. A longer one is read in pages of its ZSET by score, each with its
revision: docs/adr/0009-a-snapshot-in-pages.md says why nothing is lost between two pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from shared.addresses import Network, parse_network
from shared.errors import AddressError, StoreError
from shared.events import LONGEST_BAN_MS, Stamp
from shared.ledger import Entry, decode_entries
from shared.settings import Settings
from shared.store import Keys, translated

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


def read_snapshot(settings: Settings, client: redis.Redis) -> Snapshot:
    """Where the ledger is, with an iterator over its bans. StoreError when Redis fails, from the iterator too."""
    keys = Keys(settings.redis.prefix)
    with translated(settings):
        epoch, rev, members, (seconds, microseconds), allowed = _read(client, keys, "-inf", PAGE, first=True)
    now_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
    snapshot = Snapshot(_stamp(keys, epoch, rev), (), 0, decode_entries(allowed, now_ms), now_ms)
    snapshot.bans = _bans(settings, client, snapshot, members)
    return snapshot


def _bans(
    settings: Settings, client: redis.Redis, snapshot: Snapshot, members: list[tuple[bytes, float]]
) -> Iterator[tuple[Network, int]]:
    """All bans, from the first page on."""
    keys, asked, read = Keys(settings.redis.prefix), PAGE, snapshot.stamp
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
                    yield network, int(min(until_ms - snapshot.time_ms, LONGEST_BAN_MS))
        if end is None:
            return
        asked = 2 * asked if members[0][1] == end else PAGE  # so many bans with one end that they fill a page
        with translated(settings):
            epoch, rev, members = _read(client, keys, end, asked)
        stamp = _stamp(keys, epoch, rev)
        if stamp.epoch != read.epoch or stamp.rev < read.rev:
            raise StoreError(_REPLACED)
        read = stamp


def _read(client: redis.Redis, keys: Keys, start: float | str, number: int, *, first: bool = False) -> list[Any]:
    """Epoch, revision, a page of bans; of the first page also TIME and the allow-list. At one instant, if possible."""
    pipeline = _queue(client.pipeline(transaction=True), keys, start, number, first=first)
    try:
        return list(pipeline.execute())
    except redis.exceptions.OutOfMemoryError:
        # A full Redis grants no MULTI, not even to read. The revision is read first: what changes after it is an event,
        # and to apply it once more does no harm. Only a change of the whole ledger would.
        pipeline = _queue(client.pipeline(transaction=False), keys, start, number, first=first)
        pipeline.get(keys.epoch)
        found: list[Any]
        *found, epoch = pipeline.execute()
        if epoch != found[0]:
            raise StoreError(_REPLACED) from None
        return found


def _queue(pipeline: Any, keys: Keys, start: float | str, number: int, *, first: bool) -> Any:
    pipeline.get(keys.epoch)
    pipeline.get(keys.rev)
    pipeline.zrange(keys.bans, start, "+inf", byscore=True, offset=0, num=number, withscores=True)
    if first:
        pipeline.time()
        pipeline.hgetall(keys.allow)
    return pipeline


def _stamp(keys: Keys, epoch: bytes | None, rev: bytes | None) -> Stamp:
    try:
        return Stamp(epoch.decode("ascii", "replace") if epoch else "", int(rev or 0))
    except ValueError as error:
        found = (rev or b"")[:32]
        raise StoreError(f"{keys.rev} holds {found!r} instead of a number; delete it and {keys.epoch}") from error
