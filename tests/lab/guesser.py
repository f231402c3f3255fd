"""An attacker at full speed: many connections, each sending the next guess when the last is answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tests.lab.clients import ALIAS, token_target
from tests.lab.http1 import decode, encode

#: Before a refused or lost connection is tried again, s.
RETRY_S = 0.05


@dataclass(slots=True)
class Loot:
    """What the attacker got. Times are time.monotonic()."""

    began: float
    ended: float = 0.0
    starved: bool = False  #: it gave up because no reverse proxy answered any more
    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    answers: dict[str, list[float]] = field(default_factory=dict)  #: reverse proxy -> time of each answer

    @property
    def total(self) -> int:
        return sum(map(len, self.answers.values()))

    @property
    def last_answer(self) -> float:
        return max((times[-1] for times in self.answers.values() if times), default=self.began)

    @property
    def per_second(self) -> float:
        """Until the last answer."""
        return self.total / max(self.last_answer - self.began, 1e-9)


class Guesser:
    """Six-digit PINs from 000000 on, so never the four-digit one of the room. Use once."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        connections: int = 4,
        seconds: float = 10.0,
        starved_after: float = 2.0,
        alias: str = ALIAS,
    ) -> None:
        """Connections per address. Ends after `seconds`, or `starved_after` seconds without any answer."""
        self._addresses = addresses
        self._connections = connections
        self._seconds = seconds
        self._starved_after = starved_after
        self._target = token_target(alias)
        self._pins = (f"{n:06}" for n in itertools.count())

    def run(self) -> Loot:
        """Attack; in a thread of the attacker's namespace."""
        return asyncio.run(self._attack())

    async def _attack(self) -> Loot:
        loot = Loot(time.monotonic(), answers={address: [] for address in self._addresses})
        lines = [
            asyncio.create_task(self._keep_line(address, loot))
            for address in self._addresses
            for _ in range(self._connections)
        ]
        try:
            while (left := loot.began + self._seconds - time.monotonic()) > 0:
                fed_until = loot.last_answer + self._starved_after
                if time.monotonic() >= fed_until:
                    loot.starved = True
                    break
                await asyncio.sleep(min(left, fed_until - time.monotonic()))
        finally:
            for line in lines:
                line.cancel()
            ends = await asyncio.gather(*lines, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end
        loot.ended = time.monotonic()
        return loot

    async def _keep_line(self, address: str, loot: Loot) -> None:
        """One connection, opened again whenever it is lost."""
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(OSError):
                transport, line = await loop.create_connection(
                    lambda: _Line(self._requests(address), loot, address), address, 80
                )
                try:
                    await line.lost
                finally:
                    transport.abort()
            if not loot.answers[address] or time.monotonic() - loot.answers[address][-1] > RETRY_S:
                await asyncio.sleep(RETRY_S)

    def _requests(self, address: str) -> Iterator[bytes]:
        before, after = encode("POST", self._target, address, [("pin", "@")]).split(b"@")
        return (before + pin.encode() + after for pin in self._pins)


class _Line(asyncio.Protocol):
    _transport: asyncio.Transport

    def __init__(self, requests: Iterator[bytes], loot: Loot, address: str) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._loot = loot
        self._times = loot.answers[address]
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        found = decode(self._buffer + data)
        if found is None:
            self._buffer += data
            return
        answer, self._buffer = found
        self._times.append(time.monotonic())
        self._loot.statuses[answer.status] += 1
        if answer.closing:
            self._transport.close()
        else:
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)

    def _next(self) -> None:
        self._loot.sent += 1
        self._transport.write(next(self._requests))
