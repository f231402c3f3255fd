"""How the daemons log: one line per event on standard error, and no kind of line too often."""

from __future__ import annotations

import logging
import sys
import threading
import time
from typing import Any

from shared.printable import printable

_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


def setup(level: int = logging.INFO) -> None:
    """Log to standard error: standard output is for the result of a command."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    logging.basicConfig(level=level, handlers=[handler])


class Formatter(logging.Formatter):
    """A message is one line of printable text, whatever came into it from outside; only a traceback has several."""

    def __init__(self) -> None:
        super().__init__(_FORMAT, "%Y-%m-%d %H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  logging's
        """The line (logging.Formatter)."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802  logging's
        """The traceback (logging.Formatter)."""
        return printable(super().formatException(ei), breaks=True)


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

    def bug(self, kind: str, message: str, *arguments: object) -> None:
        """Log an error of this kind with the traceback of the exception that is being handled."""
        self.say(logging.ERROR, kind, message, *arguments, exc_info=True)

    def say(self, level: int, kind: str, message: str, *arguments: object, exc_info: bool = False) -> None:
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
            self._log.log(level, message + more, *arguments, exc_info=exc_info)
