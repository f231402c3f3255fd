"""The result of calibrating: a table and TOML for people, one value for JSON. No word of it comes from a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from pinban.calibrate.answers import Reader
from pinban.calibrate.judge import LISTS, Judgement, Meaning
from pinban.tables import table_of
from shared.printable import printable

#: Sizes in the table at most, the most frequent ones; JSON has all.
_MOST_ROWS = 40

_COLOURS = {
    Meaning.WRONG_PIN: "bold red",
    Meaning.PROMPT: "green",
    Meaning.OTHERWISE: "green",
    Meaning.UNKNOWN: "yellow",
}


def as_object(judged: Sequence[Judgement], changed: Mapping[str, tuple[int, ...]], reader: Reader) -> dict[str, Any]:
    """Everything as one value for JSON."""
    return {
        "lines": reader.lines,
        "refusals": reader.refusals,
        "joins": reader.joins,
        "sizeless": reader.sizeless,
        "untimed": reader.untimed,
        "sizes": [
            {
                **asdict(each.evidence),
                "listed": each.listed,
                "probably": each.probably,
                "why": each.why,
                "add": each.add,
                "doubtful": each.doubtful,
            }
            for each in judged
        ],
        "receiver": changed,
        "toml": "\n".join(toml(judged, changed)),
        "notes": reader.notes,
    }


def show(console: Console, judged: Sequence[Judgement], changed: Mapping[str, tuple[int, ...]], reader: Reader) -> None:
    """The same for people."""
    console.print(Text(_summary(reader)), soft_wrap=True)
    if judged:
        often = sorted(judged, key=lambda each: (-each.evidence.lines, each.evidence.size))
        console.print()
        console.print(table_of(_COLUMNS, [_row(each) for each in sorted(often[:_MOST_ROWS], key=_size)], ""))
        if len(often) > _MOST_ROWS:
            console.print(Text(f"and {len(often) - _MOST_ROWS} sizes more; --json shows all"))
        console.print()
        for each in sorted(often[:_MOST_ROWS], key=_size):
            console.print(Text(f"{each.evidence.size}: {_said(each)}", _style(each)), soft_wrap=True)
        console.print()
        for line in toml(judged, changed):
            console.print(Text(line), soft_wrap=True)
    for note in reader.notes:
        console.print(Text(f"! {printable(note)}", style="yellow"), soft_wrap=True)


def toml(judged: Sequence[Judgement], changed: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """The lines to put into the settings, each addition with its reason."""
    if not changed:
        yield "# nothing to change in the settings"
        return
    yield "# Before you use it, enter a wrong PIN yourself, and see that its size is in wrong_pin_bytes alone."
    yield "[receiver]"
    for meaning, name in LISTS.items():
        if name not in changed:
            continue
        for each in judged:
            if each.add and each.probably is meaning:
                yield f"# {each.evidence.size}: {_said(each)}"
        yield f"{name} = [{', '.join(map(str, changed[name]))}]"


_COLUMNS = ("bytes", "lines", "addresses", "networks", "rooms", "PIN", "no PIN", "?", "joined after", "refused after")


def _row(each: Judgement) -> tuple[object, ...]:
    found = each.evidence
    counts = found.lines, found.addresses, found.sources, found.rooms, found.with_pin, found.without_pin
    return (found.size, *(f"{count:,}" for count in (*counts, found.pin_unknown)),
            f"{found.joined_after / found.lines:.0%}", f"{found.refused_after / found.lines:.0%}")  # fmt: skip


def _said(each: Judgement) -> str:
    if each.listed or each.probably is Meaning.UNKNOWN:
        return f"{each.probably}, {each.why}" if each.listed else f"{each.probably}: {each.why}"
    return f"probably {each.probably}: {each.why}"


def _style(each: Judgement) -> str:
    return "bold yellow" if each.doubtful else _COLOURS[each.probably]


def _size(each: Judgement) -> int:
    return each.evidence.size


def _summary(reader: Reader) -> str:
    left_out = [
        f"{count:,} {what}"
        for count, what in (
            (reader.sizeless, "refusals without a size left out"),
            (reader.untimed, "lines without a time, of which nothing is known but their number"),
        )
        if count
    ]
    return "; ".join(
        [f"{reader.lines:,} lines: {reader.refusals:,} refusals (403) and {reader.joins:,} joins", *left_out]
    )
