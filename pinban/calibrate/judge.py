"""What each size probably means, and which list of the settings it belongs to. Pure.

It says "not known" rather than guess: a size that may be a wrong PIN's must stay one, or nobody counts guesses. Only
one thing shows that a size is no wrong PIN: on several rooms nearly everybody who came in had this answer first. A
wrong PIN does not do that, however many of them a guesser makes; he only adds rooms on which people come in without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pinban.calibrate.evidence import HALF, NEARLY_ALL, Evidence
from shared.settings import Receiver

#: So many sources and busy rooms must agree.
FEWEST_SOURCES, FEWEST_ROOMS = 5, 3

#: Of the busy rooms, the part that may disagree: somebody who joins his own rooms all day does not outvote the others.
_DISAGREE = 0.1


class Meaning(StrEnum):
    """What a refusal of one size probably is."""

    WRONG_PIN = "wrong_pin"
    PROMPT = "pin_prompt"
    OTHERWISE = "refused_otherwise"
    UNKNOWN = "not known"


#: The list of [receiver] that says so.
LISTS = {
    Meaning.WRONG_PIN: "wrong_pin_bytes",
    Meaning.PROMPT: "prompt_bytes",
    Meaning.OTHERWISE: "refused_otherwise_bytes",
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """One size: what the log shows, what the settings say, what is probably right."""

    evidence: Evidence
    listed: Meaning | None  #: by the settings
    probably: Meaning
    why: str
    add: bool = False  #: whether to put it into the list of its meaning
    doubtful: bool = False  #: the log does not look like what the settings say


def judge(found: Sequence[Evidence], settings: Receiver) -> list[Judgement]:
    """A judgement of each size."""
    refusals_known = any(each.size in settings.wrong_pin_bytes for each in found)
    return [_judge(each, settings, refusals_known) for each in found]


def lists_with(judged: Sequence[Judgement], settings: Receiver) -> dict[str, tuple[int, ...]]:
    """The lists that should change, each with what to add."""
    changed = {}
    for meaning, name in LISTS.items():
        more = {each.evidence.size for each in judged if each.add and each.probably is meaning}
        if more:
            changed[name] = tuple(sorted({*getattr(settings, name), *more}))
    return changed


def _judge(found: Evidence, settings: Receiver, refusals_known: bool) -> Judgement:
    if found.size > settings.refused_otherwise_above:
        why = f"longer than receiver.refused_otherwise_above ({settings.refused_otherwise_above})"
        return Judgement(found, Meaning.OTHERWISE, Meaning.OTHERWISE, why)
    listed = next((meaning for meaning, name in LISTS.items() if found.size in getattr(settings, name)), None)
    return _of_listed(found, listed) if listed else _of_unknown(found, refusals_known)


def _of_listed(found: Evidence, listed: Meaning) -> Judgement:
    """The settings stand: whatever a log shows, a size never moves from one list to another."""
    doubt = ""
    if listed is Meaning.WRONG_PIN and _everybody_has_it(found):
        doubt = "that is not like a wrong PIN, and an office may be banned for it; try a right PIN yourself"
    elif listed is not Meaning.WRONG_PIN and not found.without_pin and _few_have_it(found):
        doubt = "that is like a wrong PIN, and such guesses may not be counted; try a wrong PIN yourself"
    why = f"by the settings, but {_joins(found)}: {doubt}" if doubt else "by the settings"
    return Judgement(found, listed, listed, why, doubtful=bool(doubt))


def _of_unknown(found: Evidence, refusals_known: bool) -> Judgement:
    if found.sources < FEWEST_SOURCES:
        return Judgement(found, None, Meaning.UNKNOWN, f"too few lines: from {found.sources} networks")
    if found.with_pin and found.without_pin:
        return Judgement(
            found, None, Meaning.UNKNOWN, "both with a PIN and without: it may ask for PINs and refuse them"
        )
    if _everybody_has_it(found):
        if not refusals_known:
            why = f"{_joins(found)}, but no line has a size of wrong_pin_bytes, so it may be a wrong PIN's too"
            return Judgement(found, None, Meaning.UNKNOWN, why)
        meaning = Meaning.OTHERWISE if found.with_pin else Meaning.PROMPT
        return Judgement(found, None, meaning, f"{_joins(found)}: nearly everybody gets it, and comes in", add=True)
    if found.without_pin:
        return Judgement(found, None, Meaning.PROMPT, f"no request had a PIN, but {_joins(found)}: too few to be sure")
    if _few_have_it(found):
        why = f"{_joins(found)}: most come in without it. A room that is full or locked may be answered like that too"
        return Judgement(found, None, Meaning.WRONG_PIN, why, add=True)
    return Judgement(found, None, Meaning.UNKNOWN, f"{_joins(found)}: too few to tell, so it counts as a wrong PIN")


def _enough(found: Evidence) -> bool:
    return found.busy_rooms >= FEWEST_ROOMS and found.join_sources >= FEWEST_SOURCES


def _everybody_has_it(found: Evidence) -> bool:
    rooms = found.busy_rooms
    agreed = found.rooms_after >= NEARLY_ALL * rooms and found.rooms_apart <= _DISAGREE * rooms
    return _enough(found) and agreed and found.joins_after >= NEARLY_ALL * found.joins


def _few_have_it(found: Evidence) -> bool:
    agreed = found.rooms_apart >= HALF * found.busy_rooms
    return _enough(found) and agreed and found.joins_after < HALF * found.joins


def _joins(found: Evidence) -> str:
    return f"{found.joins_after} of {found.joins} joins on {found.busy_rooms} busy rooms came within a minute after it"
