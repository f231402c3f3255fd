"""What `pinban doctor` finds: a state, a subject and a sentence with the remedy in it. A value only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    state: Literal["ok", "note", "bad"]  #: good; worth knowing; costs bans or counts
    subject: str
    text: str
