"""Conferences under distributed attack: many addresses, few wrong PINs from each. No address is judged here.

Each watched room costs memory in Redis, so their number is limited, and aliases are cut.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

from receiver.failures import Failure
from shared.errors import BadDataError
from shared.ledger import Ledger
from shared.logs import Sparingly
from shared.settings import Rooms as Limits
from shared.store import Store, Word

#: How long to remember that a room is watched, before Redis is asked again, s.
_ADMITTED_S = 30.0

#: Most rooms to remember so.
_REMEMBERED = 4_096

_log = logging.getLogger("pinban.receiver")


class Rooms:
    """The rooms of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, store: Store, limits: Limits, ledger: Ledger, by: str) -> None:
        """`by` is the receiver that the history names."""
        self._limits = limits
        self._ledger = ledger
        self._by = by
        self._keys = store.keys
        self._room = store.script("receiver.store", "room")
        self._admit = store.script("receiver.store", "admit")
        self._admitted: dict[str, float] = {}
        self._sparingly = Sparingly(_log, every_s=60.0)
        self.hot: frozenset[str] = frozenset()  #: replaced as a whole, by this thread and by maintenance

    def note(self, failures: Iterable[Failure], now_ms: int) -> None:
        """Count wrong PINs per room, all in one round trip; a room with many, from many addresses, becomes hot."""
        limits = self._limits
        together: dict[str, list[Failure]] = {}
        for failure in failures:
            if failure.rule == "pin" and failure.alias and limits.failures:
                together.setdefault(room_name(failure.alias), []).append(failure)
        rooms = self._watched(together)
        replies = self._room.many([self._call(room, together[room], now_ms) for room in rooms]) if rooms else []
        for room, reply in zip(rooms, replies, strict=True):
            if isinstance(reply, BadDataError):
                self._sparingly.warning("data", "cannot watch room %s: %s", room, reply)
                continue
            count, addresses = reply
            if count >= limits.failures and addresses >= limits.addresses and room not in self.hot:
                self._heat(room, int(count), int(addresses))

    def _call(self, room: str, failures: Iterable[Failure], now_ms: int) -> tuple[list[str], list[Word]]:
        arguments: list[Word] = [int(self._limits.window), self._limits.failures]
        for failure in failures:
            arguments += [failure.id, failure.network, max(now_ms - failure.received_ms, 0)]
        return [self._keys.room_failures(room), self._keys.room_addresses(room)], arguments

    def _heat(self, room: str, count: int, addresses: int) -> None:
        limits = self._limits
        if self._ledger.heat(room, int(limits.hot_for), count, addresses, self._by):
            _log.warning("room %s is under attack: %d wrong PINs from %d addresses; for %s, %d on it are a ban",
                         room, count, addresses, limits.hot_for, limits.hot_maxretry)  # fmt: skip
        self.hot |= {room}

    def _watched(self, rooms: Iterable[str]) -> list[str]:
        now = time.monotonic()
        asked = list(rooms)
        unknown = [room for room in asked if self._admitted.get(room, 0.0) <= now]
        watched = set(asked).difference(unknown)
        if unknown:
            limits = self._limits
            replies = self._admit([self._keys.rooms], [int(limits.window), limits.most, *unknown])
            if len(self._admitted) + len(unknown) > _REMEMBERED:
                self._admitted.clear()
            for room, admitted in zip(unknown, replies, strict=True):
                if admitted:
                    self._admitted[room] = now + _ADMITTED_S
                    watched.add(room)
                else:
                    self._sparingly.warning("rooms", "watches only %d rooms, others are left out; raise rooms.most",
                                            limits.most)  # fmt: skip
        return [room for room in asked if room in watched]


def room_name(alias: str) -> str:
    """What a room is called in keys: a brace would be read as a hash tag."""
    return alias.replace("{", "_").replace("}", "_")
