"""What goes first when failures come faster than Redis counts them: each importance has a queue of its own. Pure."""

from __future__ import annotations

from enum import IntEnum


class Importance(IntEnum):
    """Of a failure. The lower number goes first, and nothing of a higher number ever displaces it."""

    URGENT = 0  #: wrong PINs, which are what pinban is for
    ORDINARY = 1  #: what can ban somebody under another rule
    LEAST = 2  #: what bans nobody: simulated rules, and joins

    def named(self, what: str) -> str:
        """The name of a number that exists once for each importance, such as `urgent_dropped`."""
        return f"{self.name.lower()}_{what}"
