"""Reading the ledger in Redis: one atomic snapshot. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import redis

from shared.addresses import Network, parse_network
from shared.allow import Entry, decode_entries
from shared.errors import AddressError, StoreError
from shared.events import Stamp
from shared.keys import Keys
from shared.settings import Settings
from shared.store import translated


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole ledger at one instant."""

    stamp: Stamp  #: epoch "" and revision 0 while nobody has written to it
    bans: Mapping[Network, int]  #: network -> its milliseconds left, by Redis TIME
    unreadable: int  #: members that are no network of ours, left out
    allowed: Sequence[Entry] = ()  #: the central allow-list
    time_ms: int = 0  #: Redis TIME of all this


def read_snapshot(settings: Settings, client: redis.Redis) -> Snapshot:
    """Everything in one MULTI, so that revision and bans belong together. StoreError when Redis fails."""
    keys = Keys(settings.redis.prefix)
    with translated(settings):
        pipeline = client.pipeline(transaction=True)
        pipeline.get(keys.epoch)
        pipeline.get(keys.rev)
        pipeline.time()
        pipeline.zrange(keys.bans, 0, -1, withscores=True)
        pipeline.hgetall(keys.allow)
        epoch, rev, (seconds, microseconds), members, allowed = pipeline.execute()
    now_ms = int(seconds) * 1_000 + int(microseconds) // 1_000
    bans: dict[Network, int] = {}
    unreadable = 0
    for member, until_ms in members:
        try:
            network = parse_network(member.decode("ascii", "replace"))
        except AddressError:
            unreadable += 1
            continue
        if until_ms > now_ms:
            bans[network] = int(until_ms - now_ms)
    try:
        stamp = Stamp(epoch.decode("ascii", "replace") if epoch else "", int(rev or 0))
    except ValueError as error:
        raise StoreError(f"{keys.rev} holds {rev[:32]!r} instead of a number; delete it and {keys.epoch}") from error
    return Snapshot(stamp, bans, unreadable, decode_entries(allowed, now_ms), now_ms)
