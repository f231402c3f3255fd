"""Reading a failregex: fail2ban's tags and Python's grammar become a small tree. Pure; matches nothing.

Python's own parser reads the pattern, so every escape, class and flag means what it means to fail2ban. The tree is then
rewritten for re2 (conditions.py, lookahead.py) and written out (re2_pattern.py).
"""

from __future__ import annotations

import importlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from receiver.failregex.chars import ANY, NEWLINE, Chars, category, complement, single, union
from receiver.failregex.errors import FailregexError

_parser = importlib.import_module("re._parser")  # typeshed knows neither
_constants = importlib.import_module("re._constants")

_IP4 = r"(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})"
#: fail2ban asks for a colon before the last part by a lookbehind; here what comes before it ends in one.
_IP6 = r"(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|:))"
_DNS = r"(?P<dns>[\w\-.^_]*\w)"
_ADDR = rf"\[?(?:{_IP4}|{_IP6})\]?"
_CIDR = r"(?P<cidr>\d+)"

_TAGS = {
    "HOST": rf"(?:{_ADDR}|{_DNS})",
    "ADDR": _ADDR,
    "IP4": _IP4,
    "IP6": _IP6,
    "DNS": _DNS,
    "CIDR": _CIDR,
    "SUBNET": rf"\[?(?:{_IP4}|{_IP6})(?:/{_CIDR})?\]?",
    "F-ID/": r"(?P<fid>\S+)",
    "F-PORT/": r"(?P<fport>\w+)",
}
_TAGS |= {f"F-{name}/": _TAGS[name] for name in ("ADDR", "IP4", "IP6", "DNS", "CIDR", "SUBNET")}

_RENAMED = {"id": "fid", "port": "fport"}

_TAG = re.compile(r"<(/?)([\w\-]+/?)>")
_LEFTOVER = re.compile(r"%\([^()]+\)s")

#: `((?i)LOGIN|PLAIN)`: flags for a group, as older Pythons let them be written.
_GROUP_FLAGS = re.compile(r"(?<!\\)\((?:\?:)?\(\?([aims]+)\)")


@dataclass(frozen=True, slots=True)
class One:
    """One character of a set."""

    chars: Chars
    fold: bool = False  #: whatever its case


@dataclass(frozen=True, slots=True)
class At:
    """A place, of no width: `start`, `end` (before the line's end), `word` (boundary), `inner` (no boundary)."""

    place: str


@dataclass(frozen=True, slots=True)
class Group:
    """A group that is remembered."""

    number: int
    name: str  #: "" for one that only a condition can refer to
    body: Seq


@dataclass(frozen=True, slots=True)
class Branch:
    """The first alternative that leads to a match."""

    alternatives: tuple[Seq, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The body several times: as often as possible if greedy, else as seldom as possible."""

    body: Seq
    least: int
    most: int | None
    greedy: bool


@dataclass(frozen=True, slots=True)
class Not:
    """A place where the body does not follow."""

    body: Seq


@dataclass(frozen=True, slots=True)
class Condition:
    """One of two sequences: `yes` if the group matched, else `no`."""

    group: int
    yes: Seq
    no: Seq


Node = One | At | Group | Branch | Repeat | Not | Condition
Seq = tuple[Node, ...]

#: Matches nowhere.
NEVER = One(())


def parse(pattern: str) -> Seq:
    """The tree of a pattern with fail2ban's tags. FailregexError for what Python or linear time cannot match."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "possible nested set": fail2ban's filters are full of them
        try:
            parsed = _parser.parse(_GROUP_FLAGS.sub(r"(?\1:", expand_tags(pattern)))
        except (re.error, OverflowError) as error:
            raise refusal(pattern, f"is not a regular expression ({error})", "try it with fail2ban-regex") from error
        except RecursionError as error:
            raise refusal(pattern, "is nested too deeply", "write it with fewer parentheses") from error
    names = {number: name for name, number in parsed.state.groupdict.items()}
    return _Tree(pattern, names).seq(parsed, parsed.state.flags)


def expand_tags(pattern: str) -> str:
    """The pattern with fail2ban's tags as groups; an unknown tag is plain text, as in fail2ban."""
    leftover = _LEFTOVER.search(pattern)
    if leftover:
        raise refusal(
            pattern,
            f"still has {leftover[0]}, which only fail2ban's configuration files resolve",
            "write out what it stands for, or use pinban import-fail2ban",
        )
    opened: set[str] = set()

    def expanded(tag: re.Match[str]) -> str:
        closing, name = tag[1], tag[2]
        if name == "SKIPLINES":
            raise refusal(pattern, "asks for several lines at once (<SKIPLINES>)", "write a pattern for one line")
        if not closing and name in _TAGS:
            return _TAGS[name]
        if not name.startswith("F-") or not re.fullmatch(r"[A-Z0-9_\-]+", name[2:]):
            return tag[0]
        if closing:
            return ")" if name in opened else tag[0]
        opened.add(name)
        group = name[2:].lower()
        return f"(?P<{_RENAMED.get(group, group)}>"

    return _TAG.sub(expanded, pattern)


def refusal(pattern: str, reason: str, remedy: str) -> FailregexError:
    """The error for a pattern, in one line."""
    shown = pattern if len(pattern) <= 160 else pattern[:160] + "..."
    return FailregexError(f"failregex {shown!r} {reason}; {remedy}")


class _Tree:
    """Turns Python's tree into ours. Flags s, m and a are resolved here, i stays with the characters."""

    def __init__(self, pattern: str, names: dict[int, str]) -> None:
        self._pattern = pattern
        self._names = names

    def seq(self, items: Sequence[Any], flags: int) -> Seq:
        nodes: list[Node] = []
        for op, value in items:
            nodes += self._nodes(str(op), value, flags)
        return tuple(nodes)

    def _nodes(self, op: str, value: Any, flags: int) -> Seq:
        fold = bool(flags & re.IGNORECASE)
        match op:
            case "LITERAL":
                return (One(single(value), fold),)
            case "NOT_LITERAL":
                return (One(complement(single(value)), fold) if not fold else self._refuse_folded(),)
            case "ANY":
                return (One(ANY if flags & re.DOTALL else complement(NEWLINE)),)
            case "IN":
                return (self._one_of(value, flags),)
            case "AT":
                return (At(_PLACES[str(value)]),)
            case "BRANCH":
                return (Branch(tuple(self.seq(alternative, flags) for alternative in value[1])),)
            case "SUBPATTERN":
                number, added, removed, body = value
                inner = self.seq(body, (flags | added) & ~removed)
                return inner if number is None else (Group(number, self._names.get(number, ""), inner),)
            case "MAX_REPEAT" | "MIN_REPEAT":
                least, most, body = value
                limit = None if most is _constants.MAXREPEAT else int(most)
                return (Repeat(self.seq(body, flags), least, limit, op == "MAX_REPEAT"),)
            case "ASSERT_NOT" if value[0] > 0:
                return (Not(self.seq(value[1], flags)),)
            case "GROUPREF_EXISTS":
                number, yes, no = value
                return (Condition(number, self.seq(yes, flags), self.seq(no or (), flags)),)
        reason, remedy = _REFUSED.get(op, (f"has {op}", "write it without"))
        raise refusal(self._pattern, f"{reason}, which no linear-time engine can match", remedy)

    def _one_of(self, items: Sequence[tuple[Any, Any]], flags: int) -> One:
        chars: Chars = ()
        negated = False
        for op, value in items:
            match str(op):
                case "NEGATE":
                    negated = True
                case "LITERAL":
                    chars = union(chars, single(value))
                case "RANGE":
                    chars = union(chars, ((value[0], value[1]),))
                case "CATEGORY":
                    name = str(value).removeprefix("CATEGORY_")
                    chars = union(chars, category(name, ascii_only=bool(flags & re.ASCII)))
                case other:
                    raise refusal(self._pattern, f"has a set with {other}", "write it out")
        fold = bool(flags & re.IGNORECASE)
        if negated and fold:
            return self._refuse_folded() if _has_letters(chars) else One(complement(chars))
        return One(complement(chars) if negated else chars, fold)

    def _refuse_folded(self) -> One:
        raise refusal(
            self._pattern, "excludes letters whatever their case ([^a] under (?i))", "write both cases, without (?i)"
        )


def _has_letters(chars: Chars) -> bool:
    return any(low <= 0x7F and any(chr(c).isalpha() for c in range(low, min(high, 0x7F) + 1)) for low, high in chars)


_PLACES = {
    "AT_BEGINNING": "start",
    "AT_BEGINNING_STRING": "start",
    "AT_END": "end",
    "AT_END_STRING": "end",
    "AT_BOUNDARY": "word",
    "AT_NON_BOUNDARY": "inner",
}

_REFUSED = {
    "GROUPREF": ("refers back to what a group matched", "write out what it may be, or match anything there"),
    "ASSERT": ("looks ahead or behind, (?=...) or (?<=...)", "match what is there as part of the pattern"),
    "ASSERT_NOT": ("looks behind, (?<!...)", "match what comes before as part of the pattern"),
    "ATOMIC_GROUP": ("has an atomic group, (?>...)", "write (?:...)"),
    "POSSESSIVE_REPEAT": ("has a possessive quantifier", "write *, + or ? without the second +"),
}
