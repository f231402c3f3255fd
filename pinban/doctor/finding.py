"""What `pinban doctor` finds, as a value: a state, a subject, and a sentence that says what to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one examination."""

    state: Literal["ok", "note", "bad"]  #: good; worth knowing; loses bans or failures
    subject: str
    text: str
