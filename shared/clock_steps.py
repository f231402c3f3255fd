"""Noticing that Redis' clock was set. Pure: both clocks are arguments, ms."""

from __future__ import annotations

#: Two clocks that drift apart by more than this between two looks did not drift, ms: one of them was set.
STEP_MS = 5_000


class Steps:
    """Compares Redis TIME with a clock of this host that nobody sets."""

    def __init__(self) -> None:
        self._apart_ms: int | None = None

    def look(self, redis_ms: int, monotonic_ms: int) -> int:
        """By how much Redis' clock was set since the last look, ms, negative when it was set back; 0 when it was not.

        When this host was suspended, that looks the same as a clock that was set forward.
        """
        before, self._apart_ms = self._apart_ms, redis_ms - monotonic_ms
        step = 0 if before is None else self._apart_ms - before
        return step if abs(step) > STEP_MS else 0
