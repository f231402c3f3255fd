"""The windows of a rule: how many failures in which time lead to a ban. A rule has one or two."""

from __future__ import annotations

from dataclasses import dataclass

#: The name of a rule's second window ends with this.
LONG = ".long"


@dataclass(frozen=True, slots=True)
class Window:
    """`maxretry` failures in `findtime_ms` lead to a ban."""

    name: str  #: the rule's name; that of its second window ends with LONG
    maxretry: int
    findtime_ms: int
