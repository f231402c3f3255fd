"""The receiver's parts, put together as its worker does, for tests of one of them."""

from __future__ import annotations

import redis

from receiver.counting import Counter
from receiver.intake import Sorter
from receiver.lines.rulebook import Rulebook
from receiver.spool.slots import Spool
from receiver.store.counters import Counts
from receiver.store.doubt import Doubt
from receiver.store.rooms import Rooms
from shared.exempt.exemptions import Exemptions
from shared.ledger.changes import Ledger
from shared.settings.schema import Settings


def sorter_of(settings: Settings) -> Sorter:
    return Sorter(settings, Rulebook(settings), Exemptions(settings))


def counter_of(settings: Settings, spool: Spool, client: redis.Redis) -> Counter:
    ledger = Ledger(settings, client)
    rooms, doubt = Rooms(settings, client, ledger), Doubt(settings, client)
    return Counter(settings, spool, Counts(settings, client), ledger, rooms, doubt)
