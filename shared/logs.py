"""How the daemons log: one line per event on standard error, and no kind of line too often."""

from __future__ import annotations

import logging
import sys
import threading
import time

_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


def setup(level: int = logging.INFO) -> None:
    """Log to standard error: standard output is for the result of a command."""
    logging.basicConfig(level=level, format=_FORMAT, datefmt="%Y-%m-%d %H:%M:%S", stream=sys.stderr)


class Sparingly:
    """Logs at most `burst` lines of one kind in `every_s`, and with the next one how many were left out."""

    def __init__(self, log: logging.Logger, every_s: float = 1.0, burst: int = 1) -> None:
        self._log = log
        self._every_s = every_s
        self._burst = burst
        self._spans: dict[str, tuple[float, int]] = {}  #: kind -> when its span ends, how many were asked for in it
        self._lock = threading.Lock()

    def warning(self, kind: str, message: str, *arguments: object) -> None:
        """Log a warning of this kind; `kind` comes from a fixed set of ours, never from input."""
        self.say(logging.WARNING, kind, message, *arguments)

    def say(self, level: int, kind: str, message: str, *arguments: object) -> None:
        """Log a line of this kind at this level."""
        more = ""
        with self._lock:
            now = time.monotonic()
            ends, asked = self._spans.get(kind, (0.0, 0))
            if now >= ends:
                if asked > self._burst:
                    more = f" (and {asked - self._burst} more like it before)"
                ends, asked = now + self._every_s, 0
            self._spans[kind] = ends, asked + 1
        if asked < self._burst:
            self._log.log(level, message + more, *arguments)
