"""The central allow-list in Redis: its entries, and looking networks up in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from shared.addresses import Network, NetworkSet, parse_network
from shared.errors import AddressError
from shared.store import Store, milliseconds, text_of


@dataclass(frozen=True, slots=True)
class Entry:
    """One network of the allow-list."""

    network: Network
    note: str
    until_ms: int  #: Redis TIME, or 0 for ever

    def encode(self) -> str:
        """As it stands in the hash."""
        return json.dumps({"note": self.note, "until": self.until_ms})


def decode_entries(stored: Mapping[bytes, bytes], now: int) -> list[Entry]:
    """The entries that hold at `now`, ms of Redis TIME. What cannot be read allows nothing."""
    found = (decode_entry(member, facts) for member, facts in stored.items())
    entries = (entry for entry in found if entry is not None and (not entry.until_ms or entry.until_ms > now))
    return sorted(entries, key=lambda entry: entry.network)


def decode_entry(member: bytes, facts: bytes) -> Entry | None:
    """One field of the hash; None for what pinban cannot have written."""
    try:
        network = parse_network(member.decode("ascii"))
        known = json.loads(facts)
        note = str(known.get("note", "")).encode("utf-8", "replace").decode()  # a lone surrogate cannot be shown
        return Entry(network, note, int(known.get("until", 0)))
    except (AddressError, ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        return None


def unreadable_entries(store: Store) -> list[str]:
    """The members of the list that allow nothing, because pinban cannot read them. StoreError when Redis fails."""
    stored: dict[bytes, bytes] = store.call("HGETALL", store.keys.allow)
    return sorted(text_of(member) for member, facts in stored.items() if decode_entry(member, facts) is None)


class AllowList:
    """The networks allowed now. Entries with an end leave by themselves; time is ms of a monotonic clock."""

    def __init__(self, entries: list[Entry] | None = None, redis_ms: int = 0, now: int = 0) -> None:
        """`redis_ms` and `now` are the same instant by Redis TIME and by the monotonic clock."""
        self._ends = {e.network: e.until_ms - redis_ms + now if e.until_ms else None for e in entries or ()}
        self._networks = NetworkSet(self._ends)
        self._next_end = min((end for end in self._ends.values() if end is not None), default=None)

    def overlaps(self, network: Network, now: int) -> bool:
        """Whether the network, or a part of it, is allowed."""
        if self._next_end is not None and now >= self._next_end:
            self._ends = {n: end for n, end in self._ends.items() if end is None or end > now}
            self._networks = NetworkSet(self._ends)
            self._next_end = min((end for end in self._ends.values() if end is not None), default=None)
        return self._networks.overlaps(network)


def read_allow(store: Store) -> tuple[list[Entry], int]:
    """The entries, and the Redis TIME of reading them, ms. StoreError when Redis fails."""
    time, stored = store.together([("TIME",), ("HGETALL", store.keys.allow)])
    now_ms = milliseconds(time)
    return decode_entries(stored, now_ms), now_ms
