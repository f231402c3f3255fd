"""The receiver's parts, put together as its worker does, for tests of one of them."""

from __future__ import annotations

import redis

from receiver.counting import Counter
from receiver.intake import Sorter
from receiver.lines.rulebook import Rulebook
from receiver.spool.slots import Journal
from receiver.store.counters import Counts
from receiver.store.doubt import Breaker
from receiver.store.rooms import Rooms
from shared.exempt.exemptions import Spared
from shared.ledger.bans import Ledger
from shared.settings.schema import Settings


def sorter_of(settings: Settings) -> Sorter:
    return Sorter(settings, Rulebook(settings), Spared(settings))


def counter_of(settings: Settings, journal: Journal, client: redis.Redis) -> Counter:
    ledger = Ledger(settings, client)
    rooms, breaker = Rooms(settings, client, ledger), Breaker(settings, client)
    return Counter(settings, journal, Counts(settings, client), ledger, rooms, breaker)
