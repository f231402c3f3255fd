"""Conferences under distributed attack: many addresses, few wrong PINs from each. No address is judged here.

Watching costs memory in Redis for each room, so only so many are watched at a time, and aliases are cut.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable

import redis

from receiver.failures import Failure
from shared.ledger import Ledger
from shared.logs import Sparingly
from shared.settings import Settings
from shared.store import Keys, Script, lua, translated

#: How long it is remembered that a room is watched, before the registry is asked again, s.
_ADMITTED_S = 30.0

#: Rooms whose admission is remembered.
_REMEMBERED = 4_096

_log = logging.getLogger("pinban.receiver")


class Rooms:
    """The rooms of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, settings: Settings, client: redis.Redis, ledger: Ledger) -> None:
        self._settings = settings
        self._client = client
        self._ledger = ledger
        self._keys = Keys(settings.redis.prefix)
        self._room = Script(client, lua("receiver.store", "room"), keys=2)
        self._admit = client.register_script(lua("receiver.store", "admit"))
        self._admitted: dict[str, float] = {}
        self._sparingly = Sparingly(_log, every_s=60.0)
        self.hot: frozenset[str] = frozenset()  #: replaced as a whole, by this thread and by whoever reads Redis

    def note(self, failures: Iterable[Failure], now_ms: int) -> None:
        """Count wrong PINs per room, all in one round trip; one that they come upon from many sides becomes hot."""
        limits = self._settings.rooms
        together: dict[str, list[Failure]] = {}
        for failure in failures:
            if failure.rule == "pin" and failure.alias and limits.failures:
                together.setdefault(room_name(failure.alias), []).append(failure)
        rooms = self._watched(together)
        with translated(self._settings):
            replies = self._room([self._call(room, together[room], now_ms) for room in rooms]) if rooms else []
        for room, (count, addresses) in zip(rooms, replies, strict=True):
            if count >= limits.failures and addresses >= limits.addresses and room not in self.hot:
                self._heat(room, int(count), int(addresses))

    def _call(self, room: str, failures: Iterable[Failure], now_ms: int) -> list[str | int]:
        limits = self._settings.rooms
        call: list[str | int] = [self._keys.room_failures(room), self._keys.room_addresses(room)]
        call += [int(limits.window), limits.failures]
        for failure in failures:
            call += [failure.id, failure.network, max(now_ms - failure.received_ms, 0)]
        return call

    def _heat(self, room: str, count: int, addresses: int) -> None:
        by = self._settings.receiver.node
        if self._ledger.heat(room, int(self._settings.rooms.hot_for), count, addresses, by):
            _log.warning("room %s is under attack: %d wrong PINs from %d addresses; %d on it are a ban for %s",
                         room, count, addresses, self._settings.rooms.hot_maxretry,
                         self._settings.rooms.hot_for)  # fmt: skip
        self.hot |= {room}

    def _watched(self, rooms: Iterable[str]) -> list[str]:
        now = time.monotonic()
        asked = list(rooms)
        unknown = [room for room in asked if self._admitted.get(room, 0.0) <= now]
        watched = set(asked).difference(unknown)
        if unknown:
            limits = self._settings.rooms
            with translated(self._settings):
                replies = self._admit([self._keys.rooms], [int(limits.window), limits.most, *unknown])
            if len(self._admitted) + len(unknown) > _REMEMBERED:
                self._admitted.clear()
            for room, admitted in zip(unknown, replies, strict=True):
                if admitted:
                    self._admitted[room] = now + _ADMITTED_S
                    watched.add(room)
                else:
                    self._sparingly.warning("rooms", "watches %d rooms and no more; raise rooms.most", limits.most)
        return [room for room in asked if room in watched]


def room_name(alias: str) -> str:
    """What a room is called in keys: a brace would be read as a hash tag."""
    return alias.replace("{", "_").replace("}", "_")
