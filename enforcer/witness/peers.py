"""Which clients had a connection lately, as far as the kernel told us. Pure: time is an argument, ms of a monotonic
clock that never goes back.

An IPv4 client is kept as its address, an IPv6 client as its /64: whoever owns a /64 has all addresses in it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

from shared.addresses import Network

#: How long a client is remembered, ms: longer than the windows of the built-in rules, because a question is about all
#: failures of a window.
KEPT_MS = 660_000

#: Most clients that are remembered, in 150 bytes each.
MOST = 200_000

#: Most prefix lengths for which the clients are kept a second time, and how long such a copy is used, ms.
_MOST_COPIES, _COPY_MS = 4, 60_000

#: ::ffff:0:0/96, RFC 4291 section 2.5.5.2
_MAPPED = bytes(10) + b"\xff\xff"


class Answer(StrEnum):
    """What a witness says about a network."""

    SEEN = "seen"  #: one of its addresses had a connection
    UNSEEN = "unseen"  #: none of them had one, for certain
    UNKNOWN = "unknown"  #: we did not look all of the time


class Peers:
    """Clients with the time when each was last known to have, or to have had, a connection."""

    def __init__(self, now_ms: int) -> None:
        """We look from now on."""
        self._complete_since = now_ms
        self._last: dict[bytes, int] = {}  #: client -> ms, the one that was seen longest ago first
        #: by number of bytes and of bits left out: when it was made, and network -> ms
        self._copies: dict[tuple[int, int], tuple[int, dict[int, int]]] = {}

    def __len__(self) -> int:
        return len(self._last)

    def note(self, clients: Iterable[bytes], now_ms: int) -> None:
        """These clients have a connection, or had one until now."""
        last = self._last
        for client in clients:
            last.pop(client, None)
            last[client] = now_ms
            for (size, shift), (_, copy) in self._copies.items():
                if len(client) == size:
                    copy[int.from_bytes(client) >> shift] = now_ms
        while len(last) > MOST:
            client = next(iter(last))
            self.missed(last.pop(client) + 1)

    def missed(self, now_ms: int) -> None:
        """Until now clients may have come and gone that we do not know of."""
        self._complete_since = max(self._complete_since, now_ms)

    def forget_old(self, now_ms: int) -> None:
        """Forget who was seen longer ago than KEPT_MS."""
        self.missed(now_ms - KEPT_MS)
        while self._last and next(iter(self._last.values())) < now_ms - KEPT_MS:
            del self._last[next(iter(self._last))]

    def answer(self, network: Network, since_ms: int, now_ms: int) -> Answer:
        """Whether an address of the network had a connection at any time since `since_ms`."""
        if self._seen_ms(network, now_ms) >= since_ms:
            return Answer.SEEN
        return Answer.UNSEEN if since_ms >= self._complete_since else Answer.UNKNOWN

    def _seen_ms(self, network: Network, now_ms: int) -> int:
        """When an address of the network was last seen; long ago when never."""
        client, shift = _bits_of(network)
        if shift <= 0:
            return self._last.get(client, -KEPT_MS)
        return self._copy(len(client), shift, now_ms).get(int.from_bytes(client) >> shift, -KEPT_MS)

    def _copy(self, size: int, shift: int, now_ms: int) -> dict[int, int]:
        """The clients by a shorter prefix."""
        made_ms, copy = self._copies.get((size, shift), (-_COPY_MS, {}))
        if made_ms + _COPY_MS > now_ms:
            return copy
        if len(self._copies) >= _MOST_COPIES:
            self._copies.clear()
        copy = {int.from_bytes(c) >> shift: ms for c, ms in self._last.items() if len(c) == size}
        self._copies[size, shift] = now_ms, copy
        return copy


@lru_cache(maxsize=10_000)
def _bits_of(network: Network) -> tuple[bytes, int]:
    """A network as a client, and how many of its bits are left out; a question is looked at more than once."""
    asked = ipaddress.ip_network(network)
    client = client_of(asked.network_address.packed)
    return client, 8 * len(client) - asked.prefixlen


def client_of(packed: bytes) -> bytes:
    """The bytes by which a client is kept: four of IPv4, also when it is IPv4-mapped, or the first eight of IPv6."""
    if len(packed) == 4:
        return packed
    return packed[12:16] if packed[:12] == _MAPPED else packed[:8]
