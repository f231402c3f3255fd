"""The patterns of a rule from the settings: fail2ban's failregex, matched in linear time. Pure.

A pattern means what it means to fail2ban 1.0, but no name is ever resolved. The differences:

- `\\b` knows ASCII letters only.
- `\\Z` is the line's end; in fail2ban it never matches, because fail2ban searches the line with its line feed.
- An ignoreregex is searched for in the whole line and in what prefregex leaves of it.
- Each line is judged by itself. So a line that only gives a name to a later one (<F-NOFAIL>, <F-MLFGAINED>) counts
  nothing, and a pattern without an address of its own finds nothing.

    line -> dates.py -> prefregex -> failregex, ignoreregex -> address
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_pton

from receiver.failregex.dates import without_date
from receiver.failregex.errors import FailregexError
from receiver.failregex.re2_pattern import ALTERNATIVE, Pattern
from receiver.failregex.syntax import refusal

#: Groups that hold an address, the most exact first.
_ADDRESSES = ("ip4", "ip6", "host", "dns", "fid")


@dataclass(frozen=True, slots=True)
class Found:
    """What a failregex found in a line."""

    address: str  #: as the line has it, not yet validated
    user: str | None
    nofail: bool  #: the line reports a success, or only names somebody for a later line: it counts nothing


class Filter:
    """The patterns of a rule."""

    def __init__(self, failregex: Sequence[Pattern], ignoreregex: Sequence[Pattern], prefregex: Pattern | None) -> None:
        self._failregex = tuple(failregex)
        self._ignoreregex = tuple(ignoreregex)
        self._prefregex = prefregex

    def match(self, line: str) -> Found | None:
        """What the first matching failregex found; None if none matches, or the one that does has no address."""
        # fail2ban searches a line with its line feed, so \s and \W at the end of a pattern match it.
        one = without_date(line.rstrip("\r\n").replace("\n", " ")) + "\n"
        text = whole = one.encode("utf-8", "replace")
        before: Mapping[str, str] = {}
        if self._prefregex is not None:
            prefix = self._prefregex.search(whole)
            if prefix is None:
                return None
            before = prefix
            if prefix.get("content"):
                text = (prefix["content"] + "\n").encode()
        for pattern in self._failregex:
            found = pattern.search(text)
            if found is not None:
                return None if self._ignored(whole, text) else _found({**before, **found})
        return None

    def _ignored(self, whole: bytes, text: bytes) -> bool:
        return any(
            pattern.search(whole) is not None or (text is not whole and pattern.search(text) is not None)
            for pattern in self._ignoreregex
        )


def compile_filter(failregex: Sequence[str], ignoreregex: Sequence[str] = (), prefregex: str = "") -> Filter:
    """The filter of these patterns. FailregexError names one that cannot be matched exactly, the reason and the remedy.

    A failregex has <HOST> or a similar tag, itself or in prefregex. Without one it must belong to a connection
    (<F-MLFID>); then it is accepted but counts nothing.
    """
    if not failregex:
        raise FailregexError("failregex is empty; write one pattern per line, <HOST> where the client's address is")
    prefix = Pattern(prefregex) if prefregex else None
    shared = prefix.names if prefix else frozenset()
    compiled = []
    for source in failregex:
        pattern = Pattern(source)
        if not _names_an_address(pattern.names | shared) and "mlfid" not in pattern.names | shared:
            raise _no_address(source)
        compiled.append(pattern)
    if not any(_names_an_address(pattern.names | shared) for pattern in compiled):
        raise _no_address(failregex[0])
    return Filter(compiled, [Pattern(source) for source in ignoreregex], prefix)


def patterns_of(text: str) -> list[str]:
    """The patterns of a setting, one per line; spaces around them do not belong to them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _names_an_address(names: frozenset[str]) -> bool:
    return any(name.removeprefix(ALTERNATIVE).rstrip("_0123456789") in ("ip", "host", "dns", "fid") for name in names)


def _no_address(source: str) -> FailregexError:
    return refusal(source, "has no <HOST>", "put <HOST> where the client's address is")


def _found(groups: Mapping[str, str]) -> Found | None:
    named = dict(groups)
    for name in sorted(groups):
        if name.startswith(ALTERNATIVE):
            plain = name.removeprefix(ALTERNATIVE)
            stem, _, number = plain.rpartition("_")
            plain = stem if stem and number.isdigit() else plain
            named[plain] = named.get(plain) or groups[name]
    group = next((name for name in _ADDRESSES if named.get(name)), None)
    if group is None or named.get("cidr", "") not in ("", "128" if group == "ip6" else "32"):
        return None  # a network is not a client
    address = named[group].strip("\n")
    if group not in ("ip4", "ip6") and not _is_address(address):
        return None
    nofail = bool(named.get("nofail") or named.get("mlfgained"))
    return Found(address, named.get("user", "").strip("\n") or None, nofail)


def _is_address(text: str) -> bool:
    """Whether the text is an address and not a name; names are not looked up."""
    try:
        inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return False
    return True
