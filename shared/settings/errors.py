"""The text of an error about a setting: one printable line, without a password, with the name that was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from shared.errors import SettingsError
from shared.printable import printable

#: The most characters of a wrong value that an error shows.
_SHOWN = 200

_TABLE = "the README has the table of all settings"


def settings_error(text: str) -> SettingsError:
    """An error with this text, on one line even if keys, values or paths in it hold line breaks."""
    return SettingsError(printable(text))


def meant(unknown: str, known: Iterable[str], prefix: str = "", otherwise: str = _TABLE) -> str:
    """The remedy for an unknown name: known names that end in it (a section may be missing), else the most alike."""
    names = [each for each in known if each.endswith((f".{unknown}", f"_{unknown}"))][:2]
    names = names or difflib.get_close_matches(unknown, known, 1)
    return f"did you mean {' or '.join(prefix + name for name in names)}?" if names else otherwise


def shown(value: object) -> str:
    """A wrong value for an error message: cut if it is long, and without the password that a URL may hold."""
    try:
        text = re.sub("//.*@", "//***@", repr(value))
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
