"""Runs of characters that a word does not begin in, (?:(?!word).)*, written without a look-ahead. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from receiver.failregex.chars import Chars, meet, single, union, without
from receiver.failregex.syntax import NEVER, Branch, One, Repeat, Seq


@dataclass(frozen=True, slots=True)
class Avoid:
    """Runs that a word does not begin in, by the word's automaton: state n has read n characters of the word."""

    text: str
    chars: Chars
    stops: list[bool]  #: whether a run may end in the state
    greedy: bool
    step: Callable[[], None]  #: called for each part, to bound their number

    def run(self, *, at_least_one: bool) -> Seq:
        """The runs, those first that the quantifier tries first."""
        if not at_least_one:
            return self._from(0)
        cycle, onward = self._paths(0, 0), self._onward(0)
        # Runs that come back to the first state are the longer ones.
        ways = [part for part in ((*cycle, *self._from(0)) if cycle else None, onward) if part is not None]
        if not self.greedy:
            ways.reverse()
        return ways[0] if len(ways) == 1 else (Branch(tuple(ways or [(NEVER,)])),)

    def _from(self, state: int) -> Seq:
        """What may be read from a state without going back below it."""
        cycle, onward = self._paths(state, state), self._onward(state)
        rounds: Seq = (Repeat(cycle, 0, None, self.greedy),) if cycle else ()
        if onward is None:
            return rounds if self.stops[state] else (NEVER,)
        return (*rounds, Repeat(onward, 0, 1, self.greedy)) if self.stops[state] else (*rounds, *onward)

    def _onward(self, state: int) -> Seq | None:
        if not any(self.stops[state + 1 :]) or not self._readable(state):
            return None
        return (One(single(ord(self.text[state]))), *self._from(state + 1))

    def _paths(self, state: int, to: int) -> Seq | None:
        """The paths from a state to one at or below it through higher states only; None if there are none."""
        self.step()
        ways: list[Seq] = []
        direct = self._edge(state, to)
        if direct:
            ways.append((One(direct),))
        if self._readable(state) and (down := self._paths(state + 1, to)) is not None:
            cycle = self._paths(state + 1, state + 1)
            rounds: Seq = (Repeat(cycle, 0, None, self.greedy),) if cycle else ()
            ways.append((One(single(ord(self.text[state]))), *rounds, *down))
        if not ways:
            return None
        return ways[0] if len(ways) == 1 else (Branch(tuple(ways)),)

    def _readable(self, state: int) -> bool:
        return state + 1 < len(self.text) and meet(self.chars, single(ord(self.text[state])))

    def _edge(self, state: int, to: int) -> Chars:
        """The characters that lead in one step from a state to one at or below it."""
        edge: Chars = () if to else without(self.chars, _set_of(self.text))
        for char in set(self.text):
            code = single(ord(char))
            if meet(self.chars, code) and char != self.text[state] and self._after(state, char) == to:
                edge = union(edge, code)
        return edge

    def _after(self, state: int, char: str) -> int:
        return next((n + 1 for n in (*borders(self.text, state), 0) if self.text[n] == char), 0)


def borders(text: str, state: int) -> list[int]:
    """How many characters of the word may just have been read in this state, most first."""
    return [n for n in range(state, 0, -1) if text[:state].endswith(text[:n])]


def _set_of(text: str) -> Chars:
    chars: Chars = ()
    for char in text:
        chars = union(chars, single(ord(char)))
    return chars
