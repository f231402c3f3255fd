"""The commands that look on: history, watch, top, check, doctor, acl. Each prints; what they read is elsewhere."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click
from rich.console import Group
from rich.live import Live

from pinban.deployment import Operator, file_of, hashes_of, users
from pinban.options import as_json_option, reported
from pinban.tables import console, print_json, print_table, table_of
from shared.durations import Milliseconds
from shared.errors import StoreError
from shared.ledger import History, Row, sentence
from shared.settings import DEFAULT_FILE, load, secret_of
from shared.store import PATIENT_S, check_secrets, connect

#: How often new entries of the history are looked for, and how often the screen of `top` is drawn anew, s.
_WATCH_S, _TOP_S = 0.5, 2.0

#: Rows of each table of `top`.
_TOP_ROWS = 15

_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


@click.command()
@click.argument("address", required=False)
@click.option("-n", "--limit", default=50, type=click.IntRange(1), metavar="N", help="The newest N; the default is 50.")
@as_json_option
@click.pass_obj
@reported
def history(config: str | None, address: str | None, limit: int, as_json: bool) -> None:
    """Show past bans, unbans and rooms under attack, of ADDRESS or of all, the newest last."""
    settings = load(config)
    network = Operator(settings).network(address) if address else ""
    rows = History(settings, connect(settings, "operator", PATIENT_S)).newest(limit, network)
    if as_json:
        print_json(rows)
        return
    print_table(("when", "what"), [(_local(row), sentence(row)) for row in rows], "nothing has happened yet")


@click.command()
@as_json_option
@click.pass_obj
@reported
def watch(config: str | None, as_json: bool) -> None:
    """Print bans, unbans and rooms under attack as they happen, and what goes wrong; until Ctrl-C."""
    settings = load(config)
    history = History(settings, connect(settings, "watch", PATIENT_S))
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
                click.echo(json.dumps(row) if as_json else f"{_local(row)}  {sentence(row)}")
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
@reported
def top(config: str | None, as_json: bool) -> None:
    """Show who fails most and which rooms are tried most, now and on; until Ctrl-C. With --json once."""
    operator = Operator(load(config))
    if as_json:
        print_json({"counters": operator.counters(), "rooms": operator.rooms()})
        return
    if not sys.stdout.isatty():  # whatever FORCE_COLOR says: a pipe has no screen, and nobody to press Ctrl-C
        console().print(_screen(operator))
        return
    try:
        with Live(_screen(operator), console=console(), screen=True, auto_refresh=False) as live:
            for _ in _turns(_TOP_S):
                live.update(_screen(operator), refresh=True)
    except KeyboardInterrupt:
        pass


@click.command()
@click.pass_obj
@reported
def check(config: str | None) -> None:
    """Read the settings, all patterns and secrets, and say whether a daemon would start with them."""
    from receiver.lines import Rulebook  # noqa: PLC0415  it loads the engine of rules of one's own

    settings = load(config)
    Rulebook(settings)
    check_secrets(settings)
    secret_of("mail.password_file", settings.mail.password_file)
    names = [name + (" (simulated)" if rule.simulate else "") for name, rule in settings.rules.items() if rule.enabled]
    where = config or DEFAULT_FILE
    click.echo(f"{where} is good; rules: {', '.join(names) or 'none'}")


@click.command()
@click.option(
    "--nginx",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The default is /etc/nginx/nginx.conf.",
)
@as_json_option
@click.pass_obj
@reported
def doctor(config: str | None, nginx: Path | None, as_json: bool) -> None:
    """Look for whatever quietly costs bans or counts, here and in Redis; exit code 1 when something does."""
    from pinban.doctor import examine  # noqa: PLC0415  it loads a parser of nginx's language

    found = []
    for finding in examine(load(config), nginx):
        found.append(finding)
        if not as_json:
            click.echo(
                f"{click.style(f'{finding.state:4}', fg=_COLOURS[finding.state])} {finding.subject}: {finding.text}"
            )
    if as_json:
        print_json([asdict(finding) for finding in found])
    sys.exit(1 if any(finding.state == "bad" for finding in found) else 0)


@click.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.option(
    "--passwords",
    default="passwords",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder with a file for each user; what is missing is made. The default is ./passwords.",
)
@click.pass_obj
@reported
def acl(config: str | None, nodes: tuple[str, ...], passwords: Path) -> None:
    """Print an ACL file for Redis 7.0 or newer: a receiver, an operator, and an enforcer for each NODE.

    Passwords are hashed in it. To add a reverse proxy or to change a password, run it again.
    """
    hashes = hashes_of(passwords, users(nodes))
    click.echo(file_of(load(config).redis.prefix, nodes, hashes), nl=False)


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
        click.echo(f"{_local({'at_ms': at_ms})}  {sign}{text}")


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
        table_of(("room", "wrong PINs", "addresses"), rooms, "no room has had a wrong PIN lately"),
    )


def _local(row: Row) -> str:
    """The time of an entry on this host's clock face, with its zone."""
    return datetime.fromtimestamp(row["at_ms"] / 1_000).astimezone().strftime("%Y-%m-%d %H:%M:%S%z")
