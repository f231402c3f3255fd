"""Conditions in a failregex, (?(name)A|B), rewritten as alternatives: one for each outcome of the group. Pure.

`(?P<c>X)?M(?(c)A|B)` is `(?:(?P<c>X)MA|MB)`: a matcher that backtracks tries exactly these, in this order. What follows
a choice is written once for each outcome, so nobody has to remember the outcome. A choice that comes after a part which
can match in several ways is refused: to write it first would change which match is found first.
"""

from __future__ import annotations

from collections.abc import Iterator

from receiver.failregex.syntax import At, Branch, Condition, Group, Node, Not, One, Repeat, Seq, refusal

#: Of the groups that conditions ask for, those that have matched.
_Matched = frozenset[int]

#: Ways through a part of a pattern, in the order of trying, each with the groups that have matched after it.
_Ways = list[tuple[Seq, _Matched]]

#: More than any pattern that people write needs.
_MOST_WAYS = 64


def without_conditions(pattern: str, tree: Seq) -> Seq:
    """The same pattern without conditions. FailregexError when a condition cannot be rewritten."""
    asked = frozenset(node.group for node in _walk(tree) if isinstance(node, Condition))
    return _Splitter(pattern, asked).seq(tree, frozenset()) if asked else tree


def _walk(tree: Seq) -> Iterator[Node]:
    for node in tree:
        yield node
        for part in parts_of(node):
            yield from _walk(part)


def parts_of(node: Node) -> tuple[Seq, ...]:
    """The sequences inside a node."""
    match node:
        case Group(body=body) | Repeat(body=body) | Not(body=body):
            return (body,)
        case Branch(alternatives=alternatives):
            return alternatives
        case Condition(yes=yes, no=no):
            return (yes, no)
    return ()


class _Splitter:
    def __init__(self, pattern: str, asked: frozenset[int]) -> None:
        self._pattern = pattern
        self._asked = asked
        self._ways_left = _MOST_WAYS

    def seq(self, tree: Seq, matched: _Matched) -> Seq:
        """The sequence up to the pattern's end, with a branch where there are several ways."""
        for index, node in enumerate(tree):
            if self._concerns(node):
                rest = tree[index + 1 :]
                ways = self._through(node, matched)
                branch = tuple(way + self.seq(rest, after) for way, after in ways)
                return tree[:index] + (branch[0] if len(branch) == 1 else (Branch(branch),))
        return tree

    def _concerns(self, node: Node) -> bool:
        return any(
            isinstance(inner, Condition) or (isinstance(inner, Group) and inner.number in self._asked)
            for inner in _walk((node,))
        )

    def _through(self, node: Node, matched: _Matched) -> _Ways:
        match node:
            case Condition(group=group, yes=yes, no=no):
                return self._ways(yes if group in matched else no, matched)
            case Group(number=number, name=name, body=body):
                own = {number} & self._asked
                return [((Group(number, name, way),), after | own) for way, after in self._ways(body, matched)]
            case Branch(alternatives=alternatives):
                return self._merged([way for part in alternatives for way in self._ways(part, matched)])
            case Repeat(body=body, least=0, most=1, greedy=greedy):
                ways = self._ways(body, matched)
                skipped: _Ways = [((), matched)]
                return self._merged(ways + skipped if greedy else skipped + ways)
            case Repeat(body=body, least=least, most=most, greedy=greedy):
                inner = self._ways(body, matched)
                if len(inner) == 1 and inner[0][1] == matched:
                    return [((Repeat(inner[0][0], least, most, greedy),), matched)]
        raise self._refusal("has a condition, (?(name)...), in a repetition or a look-ahead")

    def _ways(self, tree: Seq, matched: _Matched) -> _Ways:
        for index, node in enumerate(tree):
            if self._concerns(node):
                before, rest = tree[:index], tree[index + 1 :]
                ways = self._merged(
                    [
                        (way + onward, last)
                        for way, after in self._through(node, matched)
                        for onward, last in self._ways(rest, after)
                    ]
                )
                if len(ways) > 1 and not _fixed(before):
                    raise self._refusal("has a condition on a group that follows a part with several ways to match")
                return [(before + way, last) for way, last in ways]
        return [(tree, matched)]

    def _merged(self, ways: _Ways) -> _Ways:
        """Neighbours with the same groups matched become one way; the order of trying stays."""
        merged: list[tuple[list[Seq], _Matched]] = []
        for way, after in ways:
            if merged and merged[-1][1] == after:
                merged[-1][0].append(way)
            else:
                merged.append(([way], after))
        self._ways_left -= len(merged)
        if self._ways_left < 0:
            raise self._refusal("has too many conditions")
        return [(same[0] if len(same) == 1 else (Branch(tuple(same)),), after) for same, after in merged]

    def _refusal(self, reason: str) -> Exception:
        return refusal(self._pattern, reason, "write one failregex for each case")


def _fixed(tree: Seq) -> bool:
    """Whether it can match in at most one way at a given place."""
    return all(isinstance(node, One | At) or (isinstance(node, Group) and _fixed(node.body)) for node in tree)
