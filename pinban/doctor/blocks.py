"""nginx's blocks and what is in force in each: a directive replaces all of its name from the blocks around. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: A directive as crossplane parses it.
Directive = Mapping[str, Any]

#: Blocks that inherit directives from the block around them.
_BLOCKS = ("http", "server", "location", "if", "limit_except")

#: Arguments of a location, joined, that can match requests for a conference token; @: where try_files or error_page go.
_API = re.compile(r"=?/api/.*|(\^?~\*?)?\^?/?(api(/.*)?)?\$?|@.*")

#: nginx's units of time, ms (ngx_parse_time).
_UNITS_MS = {"ms": 1, "s": 1_000, "": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 7 * 86_400_000,
             "M": 30 * 86_400_000, "y": 365 * 86_400_000}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A block, within the blocks around it."""

    line: Directive
    around: Block | None

    @property
    def place(self) -> str:
        """Where it begins, for people."""
        return place_of(self.line)

    @property
    def name(self) -> str:
        """As it is written."""
        return " ".join([self.line["directive"], *self.line["args"]])

    @property
    def kind(self) -> str:
        """http, server, location, if or limit_except."""
        return str(self.line["directive"])

    def own(self, name: str) -> list[Directive]:
        """The directives of this name that stand in the block itself."""
        return [each for each in self.line.get("block", []) if each["directive"] == name]

    def in_force(self, name: str) -> list[Directive]:
        """The directives of this name that have an effect here: its own, or all of the nearest block around it."""
        block: Block | None = self
        while block is not None:
            if found := block.own(name):
                return found
            block = block.around
        return []

    def value(self, name: str, default: str = "") -> str:
        """The first argument of the directive in force."""
        found = self.in_force(name)
        return str(found[-1]["args"][0]) if found and found[-1]["args"] else default

    def within(self, kind: str) -> Block | None:
        """The nearest block of this kind, itself or around it."""
        block: Block | None = self
        while block is not None and block.kind != kind:
            block = block.around
        return block

    @property
    def proxies_api(self) -> bool:
        """Whether it passes requests for a conference token on to a node."""
        location = self.within("location")
        return location is not None and bool(self.own("proxy_pass")) and _may_be_api(location.line["args"])


def blocks(line: Directive, around: Block | None = None) -> Iterator[Block]:
    """The block and all in it, outside first."""
    block = Block(line, around)
    yield block
    for each in line.get("block", []):
        if each["directive"] in _BLOCKS:
            yield from blocks(each, block)


def directives(line: Directive) -> Iterator[Directive]:
    """All directives in a block, at any depth."""
    for each in line.get("block", []):
        yield each
        yield from directives(each)


def place_of(line: Directive) -> str:
    """The file and line of a directive, for people."""
    return f"{line['file']}:{line['line']}"


def milliseconds(text: str) -> int | None:
    """nginx's "1m 30s", "500ms" or "5" in ms; None for what is no length of time, as a variable."""
    parts = re.findall(r"(\d{1,9})(ms|[smhdwMy]?)\s*", text, re.ASCII)
    if not parts or re.fullmatch(r"(?:\d{1,9}(?:ms|[smhdwMy]?)\s*)+", text, re.ASCII) is None:
        return None
    return sum(int(number) * _UNITS_MS[unit] for number, unit in parts)


def _may_be_api(arguments: Sequence[str]) -> bool:
    return _API.fullmatch("".join(arguments)) is not None
