"""The tree of a failregex written for re2 and compiled. re2 needs time linear in the line, for every pattern.

It has neither backtracking nor recursion: a line costs at most its length times the pattern's length, and memory has a
limit, MAX_MEMORY. A pattern that does not compile in that memory is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

import re2  # type: ignore[import-untyped]

from receiver.failregex.chars import ASCII_WORD, Chars, complement, only, single, without, word
from receiver.failregex.conditions import without_conditions
from receiver.failregex.lookahead import without_lookaheads
from receiver.failregex.syntax import At, Branch, Group, Node, One, Repeat, Seq, parse, refusal

#: Memory for one pattern, bytes: re2's own default; sshd's longest pattern takes a tenth of it.
MAX_MEMORY = 8 << 20

#: Groups that decide what a match means; the content of others is not kept.
NAMES = frozenset(("ip4", "ip6", "dns", "cidr", "host", "fid", "user", "content", "nofail", "mlfgained", "mlfid"))

#: `alt_user`, `alt_user_1` name the user when no <F-USER> matched.
ALTERNATIVE = "alt_"

_PLACES = {"start": r"\A", "end": r"(?m:$)", "word": r"\b", "inner": r"\B"}

#: Characters without a special meaning to re2 outside of a set.
_PLAIN = frozenset(map(ord, " abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-/:;,=@%&\"'<>!#~`"))


class Pattern:
    """A compiled pattern. Searching it raises nothing."""

    def __init__(self, source: str) -> None:
        """FailregexError for a text that is not a pattern, or that re2 cannot match exactly."""
        writer = _Writer()
        text = writer.seq(without_lookaheads(source, without_conditions(source, parse(source))))
        options = re2.Options()
        options.max_mem = MAX_MEMORY
        options.log_errors = False
        try:
            self._search = re2.compile(text.encode(), options).search
        except re2.error as error:
            reason = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
            raise refusal(
                source, f"is too large for the linear-time engine ({reason[:80]})", "make it smaller"
            ) from None
        self._groups = tuple(writer.groups)
        self.names = frozenset(name for name, _ in writer.groups)

    def search(self, text: bytes) -> Mapping[str, str] | None:
        """The groups that matched, by name; None if the pattern is not found in the UTF-8 text."""
        found = self._search(text)
        if found is None:
            return None
        values = {}
        for name, number in self._groups:
            value = found[number]
            if value is not None:
                values[name] = value.decode()
        return values


class _Writer:
    def __init__(self) -> None:
        self.groups: list[tuple[str, int]] = []  #: a name may have several groups, one in each way through the pattern

    def seq(self, tree: Seq) -> str:
        return "".join(self._node(node) for node in tree)

    def _node(self, node: Node) -> str:
        match node:
            case One(chars=chars, fold=fold):
                return f"(?i:{_set(chars)})" if fold else _set(chars)
            case At(place=place):
                return _PLACES[place]
            case Group(name=name, body=body):
                if name not in NAMES and not name.startswith(ALTERNATIVE):
                    return f"(?:{self.seq(body)})"
                self.groups.append((name, len(self.groups) + 1))
                return f"({self.seq(body)})"
            case Branch(alternatives=alternatives):
                return f"(?:{'|'.join(self.seq(part) for part in alternatives)})"
            case Repeat(body=body, least=least, most=most, greedy=greedy):
                times = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((least, most))
                if times is None:
                    times = f"{{{least},{'' if most is None else most}}}"
                return f"(?:{self.seq(body)}){times}{'' if greedy else '?'}"
        raise AssertionError(node)  # the rewriting leaves no other


def _set(chars: Chars) -> str:
    char = only(chars)
    if char is not None:
        return char if ord(char) in _PLAIN else _code(ord(char))
    if not chars:
        return r"[^\x{0}-\x{10ffff}]"
    if chars[0][0] == 0 and chars[-1][1] == 0x10FFFF and len(chars) > 1:
        return f"[^{_ranges(complement(chars))}]"
    return f"[{_ranges(chars)}]"


def _ranges(chars: Chars) -> str:
    # Letters and digits by their names, which replace seven hundred ranges.
    letters = ""
    if len(chars) > len(ASCII_WORD) + 100 and not without(word(), chars):
        letters, chars = r"\p{L}\p{N}", without(chars, without(word(), single(ord("_"))))
    return letters + "".join(_code(low) if low == high else f"{_code(low)}-{_code(high)}" for low, high in chars)


def _code(code: int) -> str:
    return rf"\x{{{code:x}}}"
