"""Redis' time between two answers of Redis. It does not compare the clocks of two hosts."""

from __future__ import annotations

import time


class RedisClock:
    """Redis TIME, carried on by this host's monotonic clock. Right to half of a round trip."""

    def __init__(self) -> None:
        self._ahead_ms: float | None = None

    def learn(self, redis_ms: int, before_s: float, after_s: float) -> None:
        """Redis said `redis_ms` at a moment between the two instants of time.monotonic()."""
        self._ahead_ms = redis_ms - (before_s + after_s) * 500.0

    def now_ms(self) -> int:
        """Redis TIME, ms; 0 until it was learned."""
        return 0 if self._ahead_ms is None else round(self._ahead_ms + time.monotonic() * 1_000.0)
