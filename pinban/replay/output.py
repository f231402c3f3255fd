"""The result of replaying, as JSON and as tables. Clients choose room names, so none reaches the terminal raw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from pinban.replay.count import GUESSES_PER_JOIN, Limits, Outcome, Replay, Tried, likely_innocent
from pinban.replay.lines import Tally
from shared.durations import Milliseconds
from shared.printable import printable

_EXPLAINED = (
    "likely innocent: joined too, from an hour before the first wrong PIN that led to a ban until a day after the ban, "
    f"and at least once for every {GUESSES_PER_JOIN} wrong PINs"
)

#: Longest room name in a table.
_LONGEST_NAME = 40


def as_object(replayed: Replay, tally: Tally, now: Limits, bantime_ms: int) -> dict[str, Any]:
    """Everything as one value for JSON: times in ISO 8601 (UTC), lengths of time in ms."""
    return {
        "lines": tally.lines,
        "classes": {str(name): count for name, count in tally.classes.most_common()},
        "from": _iso(tally.first),
        "until": _iso(tally.last),
        "failures": replayed.failures,
        "addresses": replayed.addresses,
        "repeated": replayed.repeated,
        "ignored": tally.ignored,
        "untimed": tally.untimed,
        "bantime_ms": bantime_ms,
        "grid": [
            {
                "maxretry": outcome.limits.maxretry,
                "findtime_ms": outcome.limits.findtime_ms,
                "current": outcome.limits == now,
                "bans": outcome.bans,
                "addresses": outcome.addresses,
                "rooms": outcome.rooms,
                "stopped": outcome.stopped,
                "likely_innocent": outcome.innocent,
            }
            for outcome in replayed.outcomes
        ],
        "top": [
            {**asdict(tried), "likely_innocent": likely_innocent(tried.failures, tried.joins)} for tried in replayed.top
        ],
        "notes": tally.notes,
    }


def show(console: Console, replayed: Replay, tally: Tally, now: Limits, bantime_ms: int) -> None:
    """The same for people."""
    for line in _summary(replayed, tally):
        console.print(Text(line), soft_wrap=True)
    if replayed.failures:
        console.print()
        console.print(Text(f"Who would have been banned, for {Milliseconds(bantime_ms)} each:", style="bold"))
        console.print(_grid(replayed, now))
        console.print(Text(_EXPLAINED, style="dim"), soft_wrap=True)
        console.print()
        console.print(Text("The addresses with the most wrong PINs:", style="bold"))
        console.print(_top(replayed))
    for note in tally.notes:
        console.print(Text(f"! {printable(note)}", style="yellow"), soft_wrap=True)


def span(tally: Tally) -> str:
    """The first and the last time in the log, for people."""
    if tally.first is None or tally.last is None:
        return "no time on any line"
    first, last = (datetime.fromtimestamp(at, UTC) for at in (tally.first, tally.last))
    same = first.date() == last.date()
    return f"{first:%d %b %Y %H:%M} to {last:{'%H:%M' if same else '%d %b %Y %H:%M'}} UTC"


def _summary(replayed: Replay, tally: Tally) -> Iterator[str]:
    if not tally.lines:
        yield "no line to read"
        return
    yield f"{tally.lines:,} lines: " + ", ".join(f"{count:,} {name}" for name, count in tally.classes.most_common())
    yield span(tally)
    wrong = (
        f"{replayed.failures:,} wrong PINs by {replayed.addresses:,} addresses" if replayed.failures else "no wrong PIN"
    )
    left_out = [
        f"{count:,} {what}"
        for count, what in (
            (replayed.repeated, "repeats counted once"),
            (tally.ignored, "that ignoreip or ignoreregex exempts"),
            (tally.untimed, "lines without a time left out"),
        )
        if count
    ]
    yield "; ".join([wrong, *left_out])


def _grid(replayed: Replay, now: Limits) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("maxretry", "findtime", "bans", "addresses", "rooms", "PINs stopped", "likely innocent"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    findtime = None
    for outcome in sorted(replayed.outcomes, key=_by_findtime):
        if findtime not in (None, outcome.limits.findtime_ms):
            table.add_row()
        findtime = outcome.limits.findtime_ms
        current = outcome.limits == now
        share = f" ({outcome.stopped / replayed.failures:4.0%})"
        table.add_row(
            str(outcome.limits.maxretry),
            str(Milliseconds(outcome.limits.findtime_ms)),
            f"{outcome.bans:,}",
            f"{outcome.addresses:,}",
            f"{outcome.rooms:,}",
            f"{outcome.stopped:,}{share}",
            Text(f"{outcome.innocent:,}", style="bold red" if outcome.innocent else "green"),
            Text("<- now" if current else "", style="bold"),
            style="bold" if current else None,
        )
    return table


def _by_findtime(outcome: Outcome) -> tuple[int, int]:
    return outcome.limits.findtime_ms, outcome.limits.maxretry


def _top(replayed: Replay) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("address", no_wrap=True)
    for name in ("wrong PINs", "joins"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("rooms", justify="right", no_wrap=True)
    table.add_column("most tried")
    for tried in replayed.top:
        names = ", ".join(printable(name)[:_LONGEST_NAME] for name in tried.named)
        more = ", ..." if tried.rooms > len(tried.named) else ""
        table.add_row(
            str(tried.network),
            f"{tried.failures:,}",
            f"{tried.joins:,}",
            _seems(tried),
            f"{tried.rooms:,}",
            Text(names + more),
        )
    return table


def _seems(tried: Tried) -> Text:
    if not tried.joins:
        return Text()
    if likely_innocent(tried.failures, tried.joins):
        return Text("likely innocent", style="bold red")
    return Text("guessed a PIN?", style="bold yellow")


def _iso(at: float | None) -> str | None:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds") if at is not None else None
