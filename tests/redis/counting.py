"""A counter at work on a real Redis: failures go in, and the ledger says what became of them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import msgspec

from receiver.counting import Counter
from receiver.failures import Failure, pack
from receiver.spool.slots import Spool
from receiver.store.rooms import Rooms
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.ledger.changes import Ledger
from shared.settings.schema import Rooms as RoomLimits
from shared.settings.schema import Rule, Settings
from shared.store.connection import HASTY_S, connect
from tests.lab.process import PATIENCE_S, wait_until
from tests.parts import parts_of

_numbers = itertools.count()


def with_rules(settings: Settings, **rules: Mapping[str, Any]) -> Settings:
    """These settings with a few facts of a few rules changed; lengths of time in ms."""
    changed = dict(settings.rules)
    for name, facts in rules.items():
        changed[name] = msgspec.structs.replace(changed.get(name, Rule()), **_lengths(Rule, facts))
    return msgspec.structs.replace(settings, rules=changed)


def with_rooms(settings: Settings, **facts: int) -> Settings:
    """These settings with other limits for rooms; lengths of time in ms."""
    return msgspec.structs.replace(
        settings, rooms=msgspec.structs.replace(settings.rooms, **_lengths(RoomLimits, facts))
    )


def failure(network: Network, *, rule: str = "pin", alias: str = "meet", age_ms: int = 0) -> Failure:
    """One that there has not been, of that age."""
    received_ms = time.monotonic_ns() // 1_000_000 - age_ms
    return Failure(network, rule, f"id{next(_numbers)}", "rp1", alias, received_ms)


def failures(network: Network, times: int, *, rule: str = "pin", alias: str = "meet", age_ms: int = 0) -> list[Failure]:
    return [failure(network, rule=rule, alias=alias, age_ms=age_ms) for _ in range(times)]


class Counting:
    """The counter of a receiver, beside it what its maintenance would keep up to date."""

    def __init__(self, settings: Settings, counter: Counter, spool: Spool, rooms: Rooms, ledger: Ledger) -> None:
        self.counter = counter
        self._spool = spool
        self._ledger = ledger
        self.settings = settings
        self.rooms = rooms

    @property
    def troubles(self) -> Mapping[str, str]:
        """What the counter tells its maintenance."""
        return self.counter._troubles

    def take(self, some: list[Failure]) -> None:
        """Have these counted; returns when they are."""
        self.put(some)
        self.settle()

    def put(self, some: list[Failure]) -> None:
        """Have these counted soon."""
        self._spool.slots[0].commit({"received": len(some), "wrong_pin": len(some)}, [pack(each) for each in some])
        self.counter.more()

    def settle(self) -> None:
        wait_until(lambda: self._spool.totals()["queued"] == 0, "all are counted")
        wait_until(lambda: not len(self.counter._hearing), "no ban waits for witnesses")

    def bans(self) -> int:
        """How many bans the spool tells of."""
        return self._spool.totals()["bans"]

    def look_at_rooms(self) -> frozenset[str]:
        """What the maintenance does each second."""
        self.rooms.hot = self._ledger.hot_rooms()
        return self.rooms.hot


@contextmanager
def counting(settings: Settings) -> Iterator[Counting]:
    """A counter that runs inside the block, with a connection of its own."""
    spool = Spool(1)
    counter = parts_of(settings, spool).counter
    counter.adopt(spool.slots[0], own=True)
    counter.start()
    with connect(settings, "test", HASTY_S) as store:
        try:
            yield Counting(settings, counter, spool, counter.rooms, Ledger(store))
        finally:
            counter.finish(within_s=PATIENCE_S)
    assert not counter.is_alive()


def _lengths(kind: type[msgspec.Struct], facts: Mapping[str, Any]) -> dict[str, Any]:
    of = {field.name: field.type for field in msgspec.structs.fields(kind)}
    return {
        name: Milliseconds(value) if isinstance(getattr(kind(), name), Milliseconds) else value
        for name, value in facts.items()
        if name in of
    }
