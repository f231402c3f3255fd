"""Lengths of time as people write them: "5m", "1d 12h", 90 (seconds, as in fail2ban). Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000}
_PART = re.compile(r"\s*([0-9]{1,12})\s*(ms|s|m|h|d|w)?(?=[\s0-9]|$)", re.ASCII)


class Milliseconds(int):
    """A length of time, in ms."""

    def __str__(self) -> str:
        """As people write it, in its two largest units: 90000 is "1m 30s"."""
        left, parts = int(self), []
        for unit in ("d", "h", "m", "s", "ms"):
            amount, left = divmod(left, _UNIT_MS[unit])
            if amount:
                parts.append(f"{amount}{unit}")
        return " ".join(parts[:2]) or "0s"


def parse_duration(value: object) -> Milliseconds:
    """A number of seconds, or numbers with units ms, s, m, h, d, w added up. ValueError for anything else."""
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no length of time")
    if isinstance(value, int | float) and 0 <= value < 1e12:  # inf is a TOML number
        return Milliseconds(round(value * 1_000))
    if isinstance(value, str) and value.strip():
        total, at = 0, 0
        text = value.strip().lower()
        while at < len(text):
            part = _PART.match(text, at)
            if part is None:
                break
            total += int(part[1]) * _UNIT_MS[part[2] or "s"]
            at = part.end()
        else:
            return Milliseconds(total)
    raise ValueError(f"{value!r} is no length of time")


@dataclass(frozen=True, slots=True)
class Between:
    """Beside the type of a setting: the least and the greatest length of time that it may be, as people write them."""

    least: str
    greatest: str

    def __str__(self) -> str:
        return f'a length of time from "{self.least}" to "{self.greatest}", or a number of seconds'

    def parse(self, value: object) -> Milliseconds:
        """As parse_duration; ValueError also for what is shorter or longer."""
        length = parse_duration(value)
        if not parse_duration(self.least) <= length <= parse_duration(self.greatest):
            raise ValueError(f"{length} is not {self}")
        return length
