"""How the commands show what they found: tables and lines for people, JSON for programs.

What comes from outside (rooms, notes, names of nodes) goes through shared/printable.py here. No text is read as markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.printable import printable


def print_line(text: str, **style: Any) -> None:
    """One line, in a style that click knows."""
    click.secho(printable(text), **style)


def print_json(value: object) -> None:
    """Indented, for eyes too."""
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Rows under bold headings, or what to say when there is none."""
    console().print(table_of(columns, rows, empty))


def console() -> Console:
    """Standard output; to a file or pipe whole lines, whatever their length."""
    return Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else 200)


def table_of(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> Table | str:
    """Rows under bold headings, or the words for none."""
    if not rows:
        return empty
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(printable(cell)) for cell in row))
    return table


def local_time(row: dict[str, Any]) -> str:
    """The time of an entry by this host's clock, with its zone; a question mark for one that no calendar has."""
    try:
        return datetime.fromtimestamp(row["at_ms"] / 1_000).astimezone().strftime("%Y-%m-%d %H:%M:%S%z")
    except (ValueError, OverflowError, OSError):
        return "?"
