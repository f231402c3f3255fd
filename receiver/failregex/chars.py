"""Sets of characters as ranges of code points, for the classes in a pattern. Pure."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

#: Sorted ranges of code points, both ends included, with a gap between any two.
Chars = tuple[tuple[int, int], ...]

ANY: Chars = ((0, sys.maxunicode),)
NEWLINE: Chars = ((10, 10),)


def single(code: int) -> Chars:
    """The set of one character."""
    return ((code, code),)


def union(a: Chars, b: Chars) -> Chars:
    """What is in either."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(a + b):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(merged[-1][1], high))
        else:
            merged.append((low, high))
    return tuple(merged)


def complement(chars: Chars) -> Chars:
    """What is not in it."""
    gaps, at = [], 0
    for low, high in chars:
        if at < low:
            gaps.append((at, low - 1))
        at = high + 1
    if at <= sys.maxunicode:
        gaps.append((at, sys.maxunicode))
    return tuple(gaps)


def without(a: Chars, b: Chars) -> Chars:
    """What is in the first and not in the second."""
    return complement(union(complement(a), b))


def meet(a: Chars, b: Chars) -> bool:
    """Whether both have a character in common."""
    return without(a, b) != a


def only(chars: Chars) -> str | None:
    """The set's one character, or None if it has more or none."""
    return chr(chars[0][0]) if len(chars) == 1 and chars[0][0] == chars[0][1] else None


def _where(test: Callable[[str], bool]) -> Chars:
    found: list[tuple[int, int]] = []
    for code in range(sys.maxunicode + 1):
        if test(chr(code)):
            if found and found[-1][1] == code - 1:
                found[-1] = (found[-1][0], code)
            else:
                found.append((code, code))
    return tuple(found)


def _ranges(*pairs: str) -> Chars:
    return tuple((ord(pair[0]), ord(pair[-1])) for pair in pairs)


#: All characters for which str.isspace() is true.
_SPACE: Chars = union(
    ((9, 13), (28, 32), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680)),
    ((0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F), (0x3000, 0x3000)),
)


@cache
def word() -> Chars:
    """Python's \\w. Computed at the first use, which takes a tenth of a second."""
    return _where(lambda c: c.isalnum() or c == "_")


@cache
def _digit() -> Chars:
    return _where(str.isdecimal)


ASCII_WORD: Chars = union(_ranges("09", "AZ", "az"), single(ord("_")))
_ASCII_SPACE: Chars = ((9, 13), (32, 32))
_ASCII_DIGIT: Chars = _ranges("09")


def category(name: str, *, ascii_only: bool) -> Chars:
    """The set that a class letter stands for, by its name in Python's parser: WORD, NOT_DIGIT and so on."""
    match name.removeprefix("NOT_"):
        case "WORD":
            chars = ASCII_WORD if ascii_only else word()
        case "DIGIT":
            chars = _ASCII_DIGIT if ascii_only else _digit()
        case "SPACE":
            chars = _ASCII_SPACE if ascii_only else _SPACE
        case other:
            raise ValueError(f"{other} is not a class of characters")
    return complement(chars) if name.startswith("NOT_") else chars
