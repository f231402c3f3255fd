"""Sizes of 403s with a PIN of which no setting says what they mean: noted, counted in Redis, told once a day.

Nothing is decided by them. They tell an operator to run `pinban calibrate`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping

from shared.settings import Receiver
from shared.store import Store, Word, number, text_of

#: Most sizes that are remembered, here and in Redis: forged lines have as many as they like.
MOST_SIZES = 32

#: How long they stand in Redis from the first one on, ms. Then it begins anew, without those that settings explain now.
_KEPT_MS = 3 * 86_400_000

#: How long nobody tells of them again, ms.
_TELL_EVERY_MS = 86_400_000

#: Stands for all sizes that did not fit.
_MORE = "more"

_log = logging.getLogger("pinban.receiver")


class Sizes:
    """One thread notes sizes, another writes them to Redis. While Redis is away the first MOST_SIZES are kept."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys
        self._script = store.script("receiver.store", "sizes")
        self._lock = threading.Lock()
        self._noted: dict[int | str, int] = {}

    def note(self, size: int) -> None:
        """A refusal of this size came, bytes."""
        with self._lock:
            self._add(size, 1)

    def flush(self) -> None:
        """Write to Redis what was noted, and once a day tell the log what stands there.

        At a StoreError it is kept for the next call; some may then count twice.
        """
        with self._lock:
            noted, self._noted = self._noted, {}
        if not noted:
            return
        arguments: list[Word] = [MOST_SIZES, _KEPT_MS]
        for size, count in noted.items():
            arguments += [size, count]
        try:
            self._script([self._keys.sizes], arguments)
        except Exception:
            with self._lock:
                for size, count in noted.items():
                    self._add(size, count)
            raise
        # One of all workers of all receivers tells it.
        if self._store.call("SET", self._keys.sizes_told, 1, "PX", _TELL_EVERY_MS, "NX"):
            _log.warning("%s", uncalibrated(read_sizes(self._store)))

    def _add(self, size: int | str, count: int) -> None:
        if size not in self._noted and len(self._noted) >= MOST_SIZES:
            size = _MORE
        self._noted[size] = self._noted.get(size, 0) + count


def read_sizes(store: Store) -> dict[int, int]:
    """How often each size that no setting explains came in the last days. StoreError when Redis fails."""
    held = store.call("HGETALL", store.keys.sizes)
    counts = {text_of(size): number(count) for size, count in held.items()}
    return {int(size): count for size, count in counts.items() if size.isascii() and size.isdigit() and len(size) <= 15}


def unexplained(counts: Mapping[int, int], settings: Receiver) -> dict[int, int]:
    """Of these sizes, those that the settings do not explain: somebody may have calibrated since."""
    known = {*settings.wrong_pin_bytes, *settings.prompt_bytes, *settings.refused_otherwise_bytes}
    return {s: n for s, n in counts.items() if s not in known and s <= settings.refused_otherwise_above}


def uncalibrated(counts: Mapping[int, int]) -> str:
    """What an operator should know about these sizes, the most frequent first."""
    often = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    sizes = ", ".join(f"{size} bytes ({count})" for size, count in often)
    return (
        f"refusals with a PIN had sizes that no setting explains, and count as wrong PINs: {sizes}; "
        "run `pinban calibrate ACCESS_LOG`, which tells what each size probably is"
    )
