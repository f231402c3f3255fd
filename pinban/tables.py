"""How the operator's command shows what it found: tables for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from shared.durations import Milliseconds

#: Of the classes that catch the eye.
_COLOURS = {
    "wrong_pin": "bold red",
    "unknown_alias": "red",
    "registration": "red",
    "joined": "green",
    "malformed": "yellow",
    "other": "dim",
}


def print_json(value: object) -> None:
    """Indented, for eyes too."""
    click.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Rows under bold headings, or what to say when there is none."""
    console().print(table_of(columns, rows, empty))


def console() -> Console:
    """Standard output; to a file or pipe whole lines, whatever their length."""
    return Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 200)


def table_of(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> Table | str:
    """Rows under bold headings, or the words for none."""
    if not rows:
        return empty
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table


def show_allowed(rows: list[dict[str, Any]], as_json: bool) -> None:
    """The central allow-list."""
    if as_json:
        print_json(rows)
        return
    print_table(
        ("network", "left", "note"),
        [(r["network"], "for ever" if r["left_ms"] is None else Milliseconds(r["left_ms"]), r["note"]) for r in rows],
        "the allow-list is empty",
    )


def evidence_of(row: dict[str, Any]) -> str:
    """Why a network is banned, in a few words."""
    if row["why"]:
        return str(row["why"])
    rooms = sorted({str(e.get("alias", "")) for e in row["evidence"]})
    rps = sorted({str(e.get("rp", "")) for e in row["evidence"]})
    return f"{len(row['evidence'])} failures; rooms {', '.join(rooms)}; by way of {', '.join(rps)}" if rooms else ""


def show_status(report: dict[str, Any]) -> None:
    """The ledger, the nodes, what happened and what is wrong."""
    ledger = report["ledger"]
    click.echo(
        f"ledger: epoch {ledger['epoch'] or '(none yet)'}, revision {ledger['rev']}, {ledger['bans']} banned now"
    )
    print_table(
        ("node", "does", "alive", "seen", "revision", "bans in kernel", "waiting", "drops", "backend"),
        [
            (
                node["name"],
                node["kind"],
                "yes" if node["alive"] else "NO",
                f"{Milliseconds(node['silent_ms'])} ago",
                node.get("applied_rev", ""),
                node.get("bans", "") if node["kind"] == "enforcer" else "",
                node.get("queued", ""),
                node.get("drops", ""),
                node.get("backend", ""),
            )
            for node in report["nodes"]
        ],
        "no daemon has reported in the last day",
    )
    if report["log"]:
        print_table(
            ("log of", "read by", "last probe", "missing", "lag"),
            [
                (
                    path["rp"],
                    path["receiver"],
                    f"{Milliseconds(path['silent_ms'])} ago",
                    f"{path['missing']} of {path['probes']}",
                    "" if path["lag_ms"] is None else Milliseconds(path["lag_ms"]),
                )
                for path in report["log"]
            ],
            "",
        )
    for room in report["hot_rooms"]:
        click.secho(f"  room {room} is under attack", fg="yellow")
    for note in report["notes"]:
        click.echo(f"  {note}")
    for problem in report["problems"]:
        click.secho(f"! {problem}", fg="red", bold=True)


def styled(meaning: str) -> Text:
    """A class in its colour, where there are colours."""
    return Text(meaning, style=_COLOURS.get(meaning, ""))
