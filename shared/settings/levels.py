"""The levels of a rule: wider networks that are counted beside each client's own, each with a limit of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from shared.addresses import Network, too_wide

#: The largest limit of a window; schema.py says the same of maxretry.
_MOST = 1_000


@dataclass(frozen=True, slots=True)
class Level:
    """`maxretry` failures from one network of this size, within the rule's findtime, lead to its ban."""

    ipv6: bool
    length: int  #: of the network's prefix
    maxretry: int

    def __str__(self) -> str:
        return f"ipv{6 if self.ipv6 else 4}/{self.length}={self.maxretry}"


@cache
def parse_level(text: str) -> Level:
    """The level that "ipv6/48=40" names; ValueError if the text names none, or a network that is never banned."""
    matched = re.fullmatch(r"ipv([46])/([0-9]{1,3})=([0-9]{1,4})", text)
    if matched is None:
        raise ValueError(f"{text!r} is not a level")
    level = Level(matched[1] == "6", int(matched[2]), int(matched[3]))
    if level.length >= (128 if level.ipv6 else 32):
        raise ValueError(f"{text!r} is no network with several addresses")
    if too_wide(Network(f"{'::' if level.ipv6 else '0.0.0.0'}/{level.length}")):  # noqa: S104  an address, not bound
        raise ValueError(f"{text!r} is a network too wide to ban; /19 is the widest of IPv6, /8 of IPv4")
    if not 1 <= level.maxretry <= _MOST:
        raise ValueError(f"{text!r} has no limit from 1 to {_MOST}")
    return level


def scaled(levels: Iterable[str], maxretry: int, usual: int) -> tuple[str, ...]:
    """The levels that fit a higher maxretry than the `usual` one, which they were made for."""
    made = [parse_level(text) for text in levels]
    return tuple(str(Level(m.ipv6, m.length, min(m.maxretry * max(maxretry, usual) // usual, _MOST))) for m in made)
