"""Negative look-aheads of words, (?!word), rewritten as what may be there instead. Pure.

Three forms are rewritten, each exactly. The words are plain characters, perhaps in an alternation, perhaps with a `\\b`
after them:

- `(?!publickey)\\S+ for`: the characters up to the first that differs from the word's, then anything. A run may also
  end inside the word if what follows the run cannot continue the word.
- `(?:(?! from ).)*? from `: the runs that the word does not begin in, by the automaton of Knuth, Morris and Pratt. The
  order of trying stays: at each character it goes on first or stops first, as the quantifier says.
- `failed:(?! later)` at the pattern's end: anything else may follow, or nothing.

A pattern is refused when the text after a run decides and the pattern does not say what that text is.
"""

from __future__ import annotations

from receiver.failregex.avoid import Avoid, borders
from receiver.failregex.chars import Chars, complement, meet, single, without, word
from receiver.failregex.conditions import parts_of
from receiver.failregex.syntax import NEVER, At, Branch, Group, Node, Not, One, Repeat, Seq, refusal
from receiver.failregex.words import UNKNOWN, UndecidedError, Words, joined, may_stop, otherwise, trie_of, words_of

#: Steps of rewriting; the result of more would be too large to match with.
_MOST_STEPS = 2_000

#: A repetition that ends in a look-ahead is written out if it repeats at most this often.
_MOST_UNROLLED = 4


def without_lookaheads(pattern: str, tree: Seq) -> Seq:
    """The same pattern without negative look-aheads. FailregexError for one of another form than those above."""
    try:
        return _Rewriter().seq(_without_unnamed(tree), ())
    except (UndecidedError, RecursionError) as error:
        raise refusal(
            pattern,
            "has a look-ahead, (?!...), that cannot be written exactly without one",
            "write out what may be there, or exclude the lines by ignoreregex",
        ) from error


class _Rewriter:
    def __init__(self) -> None:
        self._steps_left = _MOST_STEPS

    def seq(self, tree: Seq, after: Seq) -> Seq:
        """The sequence rewritten; `after` is what follows it in the pattern, nothing at the pattern's end."""
        self._step()
        done: list[Node] = []
        for index, node in enumerate(tree):
            rest = tree[index + 1 :]
            match node:
                case Not(body=body):
                    return (*done, *self._forbid(words_of(body, self._step), rest, after))
                case Repeat(body=(Not(body=body), One(chars=chars, fold=False)), least=0 | 1, most=None):
                    done += self._tempered(body, chars, node, rest + after)
                case Repeat(body=inner, most=most) if _looks_beyond(inner):
                    if most is None or most > _MOST_UNROLLED:
                        raise UndecidedError
                    return (*done, *self.seq(_unrolled(node) + rest, after))
                case Repeat(body=inner, least=least, most=most, greedy=greedy):
                    done.append(Repeat(self.seq(inner, (UNKNOWN,)), least, most, greedy))
                case Group(number=number, name=name, body=inner):
                    done.append(Group(number, name, self.seq(inner, (*rest, *after) or (UNKNOWN,))))
                case Branch(alternatives=alternatives) if any(_has_not(part) for part in alternatives):
                    try:
                        done.append(Branch(tuple(self.seq(part, rest + after) for part in alternatives)))
                    except UndecidedError:
                        return (*done, Branch(tuple(self.seq(part + rest, after) for part in alternatives)))
                case _:
                    done.append(node)
        return tuple(done)

    def _forbid(self, words: Words, tree: Seq, after: Seq) -> Seq:  # noqa: PLR0912  a case for each kind of node
        """The sequence, rewritten for a place where none of the words may follow."""
        self._step()
        if words.ends:
            return (NEVER,)
        if not tree:
            if after:
                raise UndecidedError
            return (otherwise(words),)
        node, rest = tree[0], tree[1:]
        match node:
            case One(chars=chars, fold=False):
                return self._forbid_one(words, chars, rest, after)
            case At(place="end"):
                if words.ends_at_boundary:
                    return (NEVER,)
                return (node, *self.seq(rest, after))
            case At() if node != UNKNOWN and not words.ends_at_boundary:
                return (node, *self._forbid(words, rest, after))
            case Not(body=body):
                return self._forbid(joined(words, words_of(body, self._step)), rest, after)
            case Group(number=number, name=name, body=body):
                inner = self._forbid(words, body, (*rest, *after) or (UNKNOWN,))
                return (Group(number, name, inner), *self.seq(rest, after))
            case Branch(alternatives=alternatives):
                return (Branch(tuple(self._forbid(words, part + rest, after) for part in alternatives)),)
            case Repeat(body=(One(chars=chars, fold=False),), least=0 | 1 as least, most=None, greedy=greedy):
                if not rest and not after:  # at the pattern's end it does not matter how far the run goes
                    return self._forbid(words, (One(chars),) * least, after)
                run = self._run(words, chars, least, greedy, (*rest, *after))
                return (*run, *self.seq(rest, after))
            case Repeat(body=body):
                return self._forbid(words, _unrolled(node) + rest, after)
        raise UndecidedError

    def _forbid_one(self, words: Words, chars: Chars, rest: Seq, after: Seq) -> Seq:
        if words.ends_at_boundary:
            if not meet(chars, word()):
                return (NEVER,)
            if without(chars, word()):
                raise UndecidedError
        ways: list[Seq] = []
        others = without(chars, words.next_chars())
        if others:
            ways.append((One(others), *self.seq(rest, after)))
        for char, further in words.children.items():
            if meet(single(ord(char)), chars):
                ways.append((One(single(ord(char))), *self._forbid(further, rest, after)))
        return ways[0] if len(ways) == 1 else (Branch(tuple(ways)),)

    def _run(self, words: Words, chars: Chars, least: int, greedy: bool, after: Seq) -> Seq:
        """A run of the characters that does not begin with a word, and forms none together with what follows."""
        self._step()
        stops = not least and may_stop([words], after)
        onward: list[Seq] = []
        allowed = chars
        if words.ends_at_boundary:
            allowed = without(chars, complement(word()))
        others = without(allowed, words.next_chars())
        if others:
            onward.append((One(others), Repeat((One(chars),), 0, None, greedy)))
        for char, further in words.children.items():
            if not further.ends and meet(single(ord(char)), allowed):
                onward.append((One(single(ord(char))), *self._run(further, chars, 0, greedy, after)))
        if not onward:
            return () if stops else (NEVER,)
        going = onward[0] if len(onward) == 1 else (Branch(tuple(onward)),)
        return (Repeat(going, 0, 1, greedy),) if stops else going

    def _tempered(self, body: Seq, chars: Chars, node: Repeat, after: Seq) -> Seq:
        """A run of the characters that the word does not begin in."""
        trie, text = words_of(body, self._step), ""
        while trie.children:
            if len(trie.children) > 1 or trie.ends or trie.ends_at_boundary:
                raise UndecidedError
            ((char, trie),) = trie.children.items()
            text += char
        if not text or trie.ends_at_boundary:
            raise UndecidedError
        stops = [may_stop([trie_of(text[n:]) for n in borders(text, state)], after) for state in range(len(text))]
        return Avoid(text, chars, stops, node.greedy, self._step).run(at_least_one=node.least == 1)

    def _step(self) -> None:
        self._steps_left -= 1
        if self._steps_left < 0:
            raise UndecidedError


def _without_unnamed(tree: Seq) -> Seq:
    """The sequence without unnamed groups, which nobody asks for: ((?! from ).)* becomes (?:(?! from ).)*."""
    nodes: list[Node] = []
    for node in tree:
        match node:
            case Group(name="", body=body):
                nodes += _without_unnamed(body)
            case Group(number=number, name=name, body=body):
                nodes.append(Group(number, name, _without_unnamed(body)))
            case Branch(alternatives=alternatives):
                nodes.append(Branch(tuple(map(_without_unnamed, alternatives))))
            case Repeat(body=body, least=least, most=most, greedy=greedy):
                nodes.append(Repeat(_without_unnamed(body), least, most, greedy))
            case _:
                nodes.append(node)
    return tuple(nodes)


def _has_not(tree: Seq) -> bool:
    return any(isinstance(node, Not) or any(map(_has_not, parts_of(node))) for node in tree)


def _looks_beyond(body: Seq) -> bool:
    """Whether a repetition ends in a look-ahead, which sees the next round or what follows."""
    return bool(body) and isinstance(body[-1], Not)


def _unrolled(node: Repeat) -> Seq:
    """The repetition with its first round written out."""
    if node.most == 0:
        return ()
    least, most = max(node.least - 1, 0), None if node.most is None else node.most - 1
    onward: Seq = (*node.body, Repeat(node.body, least, most, node.greedy)) if most != 0 else node.body
    if node.least:
        return onward
    return (Branch((onward, ()) if node.greedy else ((), onward)),)
