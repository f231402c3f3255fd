"""The words of an error about a setting: one printable line, no password, and what was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from shared.errors import SettingsError

#: How much of a wrong value is shown, characters.
_SHOWN = 200

_TABLE = "the README has the table of all settings"


def settings_error(text: str) -> SettingsError:
    """The error that says this, on one line whatever keys, values and paths are in it."""
    return SettingsError("".join(char if char.isprintable() else repr(char)[1:-1] for char in text))


def meant(unknown: str, known: Iterable[str], prefix: str = "", otherwise: str = _TABLE) -> str:
    """The remedy for a name that is none: those that end in it, as a section is soon forgotten, else the most alike."""
    names = [each for each in known if each.endswith((f".{unknown}", f"_{unknown}"))][:2]
    names = names or difflib.get_close_matches(unknown, known, 1)
    return f"did you mean {' or '.join(prefix + name for name in names)}?" if names else otherwise


def shown(value: object) -> str:
    """A wrong value, cut where it is long, without the password that a URL may hold."""
    try:
        text = re.sub("//.*@", "//***@", repr(value))
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
