"""Commands that show what happens now, until Ctrl-C: watch, top."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator

import click
from rich.console import Group
from rich.live import Live

from pinban.deployment import Operator
from pinban.options import as_json_option
from pinban.tables import console, local_time, print_json, table_of
from shared.durations import Milliseconds
from shared.errors import StoreError
from shared.ledger import History, sentence
from shared.printable import printable
from shared.settings import load
from shared.store import PATIENT_S, connect

#: How often `watch` reads new entries of the history, and how often `top` draws its screen again, s.
_WATCH_S, _TOP_S = 0.5, 2.0

#: Rows of each table of `top`.
_TOP_ROWS = 15


@click.command()
@as_json_option
@click.pass_obj
def watch(config: str | None, as_json: bool) -> None:
    """Print each ban, unban and problem as it happens.

    Also rooms under attack. Ctrl-C ends it.
    """
    settings = load(config)
    history = History(connect(settings, "watch", PATIENT_S))
    operator = Operator(settings)
    known: list[str] = []
    last = history.last()
    try:
        for turn in _turns(_WATCH_S):
            try:
                rows = history.since(last)
                problems = operator.status()["problems"] if turn % 4 == 0 else known
            except StoreError as error:
                rows, problems = [], [str(error)]
            for row in rows:
                click.echo(json.dumps(row) if as_json else f"{local_time(row)}  {printable(sentence(row))}")
                last = row["id"]
            for text, now in [(p, True) for p in problems if p not in known] + [
                (p, False) for p in known if p not in problems
            ]:
                _tell(text, now, as_json)
            known = problems
    except KeyboardInterrupt:
        click.echo()


@click.command()
@as_json_option
@click.pass_obj
def top(config: str | None, as_json: bool) -> None:
    """Show who fails most and which rooms are tried most.

    Updated every two seconds until Ctrl-C; shown once with --json or if the output is not a terminal.
    """
    operator = Operator(load(config))
    if as_json:
        print_json({"counters": operator.counters(), "rooms": operator.rooms()})
        return
    if not sys.stdout.isatty():  # not console().is_terminal, which FORCE_COLOR sets for a pipe too
        console().print(_screen(operator))
        return
    try:
        with Live(_screen(operator), console=console(), screen=True, auto_refresh=False) as live:
            for _ in _turns(_TOP_S):
                live.update(_screen(operator), refresh=True)
    except KeyboardInterrupt:
        pass


def _turns(every_s: float) -> Iterator[int]:
    turn = 0
    while True:
        yield turn
        turn += 1
        time.sleep(every_s)


def _tell(text: str, now: bool, as_json: bool) -> None:
    at_ms = time.time_ns() // 1_000_000
    if as_json:
        click.echo(json.dumps({"at_ms": at_ms, "event": "problem" if now else "solved", "what": text}))
    else:
        sign = click.style("! ", fg="red", bold=True) if now else click.style("solved: ", fg="green")
        click.echo(f"{local_time({'at_ms': at_ms})}  {sign}{printable(text)}")


def _screen(operator: Operator) -> Group:
    rows = operator.counters()[:_TOP_ROWS]
    failing = [(r["network"], r["rule"], f"{r['count']} of {r['maxretry']}", Milliseconds(r["ttl_ms"])) for r in rows]
    rooms = [
        (r["room"] + ("  UNDER ATTACK" if r["hot"] else ""), r["failures"], r["addresses"])
        for r in operator.rooms()[:_TOP_ROWS]
    ]
    return Group(
        table_of(("network", "rule", "failures", "forgotten in"), failing, "nobody has failed lately"),
        "",
        table_of(("room", "wrong PINs", "networks"), rooms, "no room has had a wrong PIN lately"),
    )
