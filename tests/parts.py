"""The receiver's parts, put together as its worker does, for tests of one of them."""

from __future__ import annotations

import redis

from receiver.breaker import Breaker
from receiver.counter import Counter
from receiver.counts import Counts
from receiver.ingest import Sorter
from receiver.journal import Journal
from receiver.ledger import Ledger
from receiver.rooms import Rooms
from receiver.rulebook import Rulebook
from shared.settings import Settings
from shared.spared import Spared


def sorter_of(settings: Settings) -> Sorter:
    return Sorter(settings, Rulebook(settings), Spared(settings))


def counter_of(settings: Settings, journal: Journal, client: redis.Redis) -> Counter:
    ledger = Ledger(settings, client)
    rooms, breaker = Rooms(settings, client, ledger), Breaker(settings, client)
    return Counter(settings, journal, Counts(settings, client), ledger, rooms, breaker)
