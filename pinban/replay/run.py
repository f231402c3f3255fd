"""`pinban replay`: old logs, other limits, who would have been banned. Puts the other files of this folder together.

files -> batches of lines -> events -> replay(events, grid) -> table or JSON, and a picture
files.py         lines.py              count.py                output.py          plot.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from pinban.replay.count import Event, Limits, replay
from pinban.replay.files import batches, distinct
from pinban.replay.lines import RULE, Reader
from pinban.replay.output import as_object, show, span
from shared.durations import Milliseconds, parse_duration
from shared.errors import PinbanError
from shared.settings import Rule, Settings

#: Around the rule's own limits: 5 in 5m makes 3, 5, 8, 10 and 1m, 5m, 10m, 1h.
_MAXRETRY_FACTORS = (0.6, 1, 1.6, 2)
_FINDTIME_FACTORS = (0.2, 1, 2, 12)

_MOST_MAXRETRY = 1_000
_FINDTIME_MS = (1_000, 30 * 86_400_000)
_BANTIME_MS = (2_000, 3_650 * 86_400_000)

#: How many values of one limit a table and a picture can show.
_MOST_VALUES = 8

_PICTURES = (".svg", ".png")


def run_replay(
    files: Sequence[str],
    maxretry: str | None,
    findtime: str | None,
    bantime: str | None,
    plot: str | None,
    as_json: bool,
    settings: Settings,
    console: Console,
) -> int:
    """Read the files and print what each pair of limits would have done; returns the exit code.

    Limits are as typed, "3,5,10" and "1m,5m"; None means values around those of the settings. All bans last for
    bantime: second windows, growing bans and hot rooms are not replayed. PinbanError, before anything is read, for
    limits out of range, a file that cannot be read, a picture that cannot be drawn.
    """
    rule = settings.rules.get(RULE, Rule())
    now = Limits(rule.maxretry, int(rule.findtime))
    grid = grid_of(rule, maxretry, findtime)
    bantime_ms = int(rule.bantime) if bantime is None else _length("bantime", _BANTIME_MS, bantime)
    draw = _drawing(Path(plot)) if plot is not None else None
    reader = Reader(settings)
    names, size = distinct(files, reader.tally.notes.append)
    replayed = replay(_events(names, size, reader), grid, bantime_ms)
    if as_json:
        console.out(json.dumps(as_object(replayed, reader.tally, now, bantime_ms), indent=2), highlight=False)
    else:
        show(console, replayed, reader.tally, now, bantime_ms)
    if draw is not None:
        draw(
            replayed.outcomes,
            now,
            f"{replayed.failures:,} wrong PINs by {replayed.addresses:,} addresses, {span(reader.tally)}; "
            f"bans of {Milliseconds(bantime_ms)}",
        )
    return 0


def grid_of(rule: Rule, maxretry: str | None = None, findtime: str | None = None) -> tuple[Limits, ...]:
    """Every pair of the limits typed, ascending; around the rule's where none are. PinbanError for bad ones."""
    if maxretry is None:
        counts = {min(max(round(rule.maxretry * factor), 1), _MOST_MAXRETRY) for factor in _MAXRETRY_FACTORS}
    else:
        counts = _several("maxretry", maxretry, _count)
    if findtime is None:
        low, high = _FINDTIME_MS
        lengths = {min(max(round(rule.findtime * factor), low), high) for factor in _FINDTIME_FACTORS}
    else:
        lengths = _several("findtime", findtime, partial(_length, "findtime", _FINDTIME_MS))
    return tuple(Limits(count, length) for length in sorted(lengths) for count in sorted(counts))


def _several(name: str, text: str, read: Callable[[str], int]) -> set[int]:
    values = {read(part.strip()) for part in text.split(",")}
    if len(values) > _MOST_VALUES:
        raise PinbanError(f"{name}: {len(values)} values are too many to show; give at most {_MOST_VALUES}")
    return values


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= _MOST_MAXRETRY):
        raise PinbanError(f"maxretry: {text!r} is not a number from 1 to {_MOST_MAXRETRY}; write 5 or 3,5,10")
    return int(text)


def _length(name: str, bounds: tuple[int, int], text: str) -> int:
    low, high = (Milliseconds(bound) for bound in bounds)
    try:
        length = parse_duration(text)
    except ValueError as error:
        raise PinbanError(f"{name}: {text!r} is not a length of time; write 5m or 1h30m") from error
    if not low <= length <= high:
        raise PinbanError(f"{name}: {text!r} is out of range; write a length from {low} to {high}")
    return int(length)


def _drawing(path: Path) -> Callable[..., None]:
    if path.suffix.lower() not in _PICTURES:
        raise PinbanError(f"{path}: is not a picture's name; end it in {' or '.join(_PICTURES)}")
    if not path.absolute().parent.is_dir():
        raise PinbanError(f"{path}: the directory {path.parent} does not exist; make it first")
    try:
        from pinban.replay.plot import draw  # noqa: PLC0415  it takes half a second, and few have the extra
    except ImportError as error:
        raise PinbanError("--plot needs matplotlib; install it with: pip install matplotlib") from error
    return partial(draw, path)


def _events(names: Sequence[str], size: int | None, reader: Reader) -> Iterator[Event]:
    terminal = Console(stderr=True)
    columns = (TextColumn("reading"), BarColumn(), TaskProgressColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_interactive) as progress:
        task = progress.add_task("", total=size)
        for name in names:
            yield from reader.events(name, batches(name, partial(progress.advance, task), reader.tally.notes.append))
