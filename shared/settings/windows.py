"""What a rule counts in: so many failures in so much time, once or twice."""

from __future__ import annotations

from dataclasses import dataclass

#: What the name of a rule's second window ends in.
LONG = ".long"


@dataclass(frozen=True, slots=True)
class Window:
    """So many failures in so much time are a ban."""

    name: str  #: of the rule, with LONG after it for the second one
    maxretry: int
    findtime_ms: int
