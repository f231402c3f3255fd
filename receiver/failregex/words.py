"""The words that a negative look-ahead forbids, and whether they can follow at some place of a pattern. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from receiver.failregex.chars import NEWLINE, Chars, complement, meet, only, single, union, without, word
from receiver.failregex.syntax import At, Branch, Group, Node, One, Repeat, Seq

#: What follows is not known, for example another round of a repetition.
UNKNOWN = At("unknown")


class UndecidedError(Exception):
    """The look-ahead is not of a form that can be rewritten, or looks further than what is known to follow."""


@dataclass(slots=True)
class Words:
    """A trie of the words that must not follow."""

    children: dict[str, Words] = field(default_factory=dict)
    ends: bool = False  #: a word is complete here
    ends_at_boundary: bool = False  #: a word is complete here if this is a word boundary

    def next_chars(self) -> Chars:
        """The characters with which a word may continue."""
        chars: Chars = ()
        for char in self.children:
            chars = union(chars, single(ord(char)))
        return chars


def words_of(body: Seq, step: Callable[[], None]) -> Words:
    """The words that a look-ahead forbids; UndecidedError for anything but words. `step` is called for each."""
    words = Words()
    for text, at_boundary in _spelled(body, step):
        step()
        if at_boundary and not (text and meet(single(ord(text[-1])), word())):
            raise UndecidedError
        at = words
        for char in text:
            at = at.children.setdefault(char, Words())
        if at_boundary:
            at.ends_at_boundary = True
        else:
            at.ends = True
    return words


def _spelled(body: Seq, step: Callable[[], None]) -> Iterator[tuple[str, bool]]:
    if not body:
        yield "", False
        return
    node, rest = body[0], body[1:]
    match node:
        case One(chars=chars, fold=False) if (char := only(chars)) and char != "\n":
            yield from ((char + text, at_boundary) for text, at_boundary in _spelled(rest, step))
        case Branch(alternatives=alternatives):
            for part in alternatives:
                step()
                yield from _spelled(part + rest, step)
        case Repeat(least=0, most=1, body=inner):
            yield from _spelled(inner + rest, step)
            yield from _spelled(rest, step)
        case Group(body=inner):
            yield from _spelled(inner + rest, step)
        case One(chars=chars, fold=False) if not meet(chars, NEWLINE) and sum(b - a + 1 for a, b in chars) <= 8:
            for low, high in chars:
                for code in range(low, high + 1):
                    yield from _spelled((One(single(code)), *rest), step)
        case At(place="word") if not rest:
            yield "", True
        case _:
            raise UndecidedError


def trie_of(text: str) -> Words:
    """The trie of one word."""
    return Words({text[0]: trie_of(text[1:])}) if text else Words(ends=True)


def joined(a: Words, b: Words) -> Words:
    """The words of both."""
    children = dict(a.children)
    for char, further in b.children.items():
        children[char] = joined(children[char], further) if char in children else further
    return Words(children, a.ends or b.ends, a.ends_at_boundary or b.ends_at_boundary)


def may_stop(pending: list[Words], after: Seq) -> bool:
    """Whether what follows completes no word that has begun; UndecidedError when what follows is not known."""
    for chars in _heads(after):
        onward: list[Words] = []
        for words in pending:
            if words.ends or (words.ends_at_boundary and not meet(chars, word())):
                return False
            if words.ends_at_boundary and without(chars, word()):
                raise UndecidedError
            if meet(chars, words.next_chars()):
                char = only(chars)
                if char is None:
                    raise UndecidedError
                onward.append(words.children[char])
        if any(words.ends for words in onward):
            return False
        pending = [words for words in onward if words.children or words.ends_at_boundary]
        if not pending:
            return True
    if any(words.children or words.ends_at_boundary for words in pending):
        raise UndecidedError
    return True


def otherwise(words: Words) -> Node:
    """What may follow at the pattern's end. It is read; nothing comes after it, so that changes no result."""
    others = complement(words.next_chars())
    ways: list[Seq] = []
    if words.ends_at_boundary:
        others = without(others, complement(word()))
    else:
        ways.append((At("end"),))
    ways.insert(0, (One(others),))
    for char, further in words.children.items():
        code = single(ord(char))
        if not further.ends and not (words.ends_at_boundary and not meet(code, word())):
            ways.append((One(code), otherwise(further)))
    return Branch(tuple(ways))


def _heads(tree: Seq) -> Iterator[Chars]:
    """The sets of the next characters, one after the other, as far as they are certain."""
    for index, node in enumerate(tree):
        match node:
            case One(chars=chars, fold=False):
                yield chars
            case At(place="end"):
                yield NEWLINE
                return
            case At(place="word" | "inner" | "start"):
                continue
            case Group(body=body):
                yield from _heads(body + tree[index + 1 :])
                return
            case _:
                first = _first(tree[index:])
                if first is not None:
                    yield first
                return


def _first(tree: Seq) -> Chars | None:
    """The set of characters that may come first; None when that is not known."""
    for index, node in enumerate(tree):
        rest = tree[index + 1 :]
        match node:
            case One(chars=chars, fold=False):
                return chars
            case At(place="end"):
                return NEWLINE
            case At(place="word" | "inner" | "start"):
                continue
            case Group(body=body):
                return _first(body + rest)
            case Branch(alternatives=alternatives):
                return _all_of([_first(part + rest) for part in alternatives])
            case Repeat(body=body, least=0):
                return _all_of([_first((*body, UNKNOWN)), _first(rest)])
            case Repeat(body=body):
                return _first((*body, UNKNOWN))
            case _:
                return None
    return None


def _all_of(sets: list[Chars | None]) -> Chars | None:
    chars: Chars = ()
    for one in sets:
        if one is None:
            return None
        chars = union(chars, one)
    return chars
