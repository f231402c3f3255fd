"""Conferences under distributed attack: many networks, few wrong PINs from each. No address is judged here.

What heats a room must cost something: wrong PINs that a node refused, from many networks of which each is an IPv4 /24
or an IPv6 /48. Who can forge log lines can heat any room; then three wrong PINs on it are a ban, but never fewer, and
nobody is banned for the heat itself.

Each watched room costs memory in Redis, so their number is limited, and aliases are cut. When the watch is full the
coldest room is dropped. A room has one degree for each wrong PIN and loses one in each window / rooms.failures (40 s):
15 wrong PINs in ten minutes leave it warm, one is soon cold.

To push out the room that he attacks, somebody needs rooms.most other rooms (10,000) that are as warm as it, all the
time: as many real rooms with a PIN, and 250 wrong PINs on them in each second, each answered by a node. At four for
each address before it is banned that takes 37,500 addresses in ten minutes. With those he could try 150,000 PINs at the
room itself, without any heat. Forged lines cost nothing: who can forge them can fill the watch and hide an attack.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from receiver.failures import Failure, room_of
from shared.addresses import block_of
from shared.errors import BadDataError
from shared.ledger import Ledger
from shared.logs import Sparingly
from shared.settings import Rooms as Limits
from shared.store import Store, Word, text_of

_log = logging.getLogger("pinban.receiver")


class Rooms:
    """The rooms of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, store: Store, limits: Limits, ledger: Ledger, by: str) -> None:
        """`by` is the receiver that the history names."""
        self._limits = limits
        self._ledger = ledger
        self._by = by
        self._store = store
        self._keys = store.keys
        self._room = store.script("receiver.store", "room")
        self._admit = store.script("receiver.store", "admit")
        self._sparingly = Sparingly(_log, every_s=60.0)
        self.hot: frozenset[str] = frozenset()  #: replaced as a whole, by this thread and by maintenance

    def note(self, failures: Iterable[Failure], now_ms: int) -> None:
        """Count wrong PINs per room, all in one round trip; a room with many, from many networks, becomes hot."""
        limits = self._limits
        together: dict[str, list[Failure]] = {}
        for failure in failures:
            if failure.rule == "pin" and failure.alias and limits.failures:
                together.setdefault(room_of(failure.alias), []).append(failure)
        if not together:
            return
        noted = [(self._room, *self._call(room, some, now_ms)) for room, some in together.items()]
        dropped, *replies = self._store.run([(self._admit, [self._keys.rooms], self._warmth(together)), *noted])
        if isinstance(dropped, BadDataError):
            raise dropped
        for room, reply in zip(together, replies, strict=True):
            if isinstance(reply, BadDataError):
                self._sparingly.warning("data", "cannot watch room %s: %s", room, reply)
                continue
            count, networks = reply
            if count >= limits.failures and networks >= limits.addresses and room not in self.hot:
                self._heat(room, int(count), int(networks))
        if dropped:
            self._forget([text_of(room) for room in dropped])

    def _warmth(self, together: Mapping[str, Sequence[Failure]]) -> list[Word]:
        limits = self._limits
        arguments: list[Word] = [int(limits.window), limits.failures, limits.most]
        for room, some in together.items():
            arguments += [room, len(some)]
        return arguments

    def _call(self, room: str, failures: Iterable[Failure], now_ms: int) -> tuple[list[str], list[Word]]:
        arguments: list[Word] = [int(self._limits.window), self._limits.failures]
        for failure in failures:
            arguments += [failure.id, block_of(failure.network), max(now_ms - failure.received_ms, 0)]
        return [self._keys.room_failures(room), self._keys.room_addresses(room)], arguments

    def _heat(self, room: str, count: int, networks: int) -> None:
        limits = self._limits
        if self._ledger.heat(room, int(limits.hot_for), count, networks, self._by):
            _log.warning("room %s is under attack: %d wrong PINs from %d networks; for %s, %d on it are a ban",
                         room, count, networks, limits.hot_for, limits.hot_maxretry)  # fmt: skip
        self.hot |= {room}

    def _forget(self, rooms: Sequence[str]) -> None:
        """Delete what was noted of rooms that were dropped. What this misses expires after a window."""
        keys = self._keys
        self._store.each([("DEL", keys.room_failures(room), keys.room_addresses(room)) for room in rooms])
        self._sparingly.warning(
            "rooms", "watches only %d rooms and dropped the coldest; raise rooms.most", self._limits.most
        )
