"""The command line: its words, its exit codes, one clear line for every error. What the commands do is elsewhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, BinaryIO, ParamSpec

import click
from rich.console import Console
from rich.table import Table

from pinban import explain as explaining
from pinban.operator import Operator
from shared.configuration import load
from shared.durations import Milliseconds, parse_duration
from shared.errors import PinbanError
from shared.settings import Settings

P = ParamSpec("P")

_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


class _Length(click.ParamType[Milliseconds]):
    """A length of time as pinban writes it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Milliseconds:
        try:
            length = parse_duration(value)
        except ValueError:
            self.fail(f"{value!r} is no length of time; write 10m, 1h30m or 2d", param, ctx)
        if not 2_000 <= length <= 3_650 * 86_400_000:
            self.fail(f"{value!r} is not from 2s to 3650d", param, ctx)
        return length


def _reported(command: Callable[P, None]) -> Callable[P, None]:
    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except PinbanError as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            raise click.ClickException(f"{error.filename or 'a file'}: {error.strerror or error}") from error

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", metavar="FILE", help="Settings, a TOML file.")
@click.version_option(package_name="pinban")
@click.pass_context
def main(context: click.Context, config: str | None) -> None:
    """Ban conference-PIN guessers on every reverse proxy of a Pexip deployment."""
    context.obj = config


def _settings(config: str | None) -> Settings:
    return load(config)


@main.command()
@_as_json
@click.pass_obj
@_reported
def status(config: str | None, as_json: bool) -> None:
    """Show the ledger and every daemon; exit code 1 when something is wrong."""
    report = Operator(_settings(config)).status()
    if as_json:
        _print_json(report)
    else:
        ledger = report["ledger"]
        click.echo(
            f"ledger: epoch {ledger['epoch'] or '(none yet)'}, revision {ledger['rev']}, {ledger['bans']} banned now"
        )
        _print_table(
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
        for note in report["notes"]:
            click.echo(f"  {note}")
        for problem in report["problems"]:
            click.secho(f"! {problem}", fg="red", bold=True)
    sys.exit(1 if report["problems"] else 0)


@main.command()
@_as_json
@click.pass_obj
@_reported
def bans(config: str | None, as_json: bool) -> None:
    """List who is banned now, why, and for how much longer."""
    rows = Operator(_settings(config)).bans()
    if as_json:
        _print_json(rows)
        return
    _print_table(
        ("network", "left", "rule", "strikes", "evidence", "by"),
        [(r["network"], Milliseconds(r["left_ms"]), r["rule"], r["strikes"], _evidence(r), r["by"]) for r in rows],
        "nobody is banned",
    )


@main.command()
@click.argument("address")
@click.option("--for", "bantime", type=_Length(), metavar="TIME", help="How long; the default is rules.pin.bantime.")
@click.option("--why", default="", metavar="TEXT", help="A note for the history.")
@_as_json
@click.pass_obj
@_reported
def ban(config: str | None, address: str, bantime: Milliseconds | None, why: str, as_json: bool) -> None:
    """Ban an ADDRESS or network on every RP. A standing ban is made longer, never shorter."""
    settings = _settings(config)
    length = bantime or settings.rules.pin.bantime
    result = Operator(settings).ban(address, int(length), why)
    if as_json:
        _print_json(result)
    elif result["new"]:
        click.echo(f"banned {result['network']} for {length}")
    else:
        click.echo(f"{result['network']} is banned for another {Milliseconds(result['left_ms'])} already")


@main.command()
@click.argument("address")
@click.option("--why", default="", metavar="TEXT", help="A note for the history.")
@_as_json
@click.pass_obj
@_reported
def unban(config: str | None, address: str, why: str, as_json: bool) -> None:
    """End the ban of an ADDRESS or network on every RP; forget its failures and strikes."""
    result = Operator(_settings(config)).unban(address, why)
    if as_json:
        _print_json(result)
    elif result["was_banned"]:
        click.echo(f"unbanned {result['network']}")
    elif result["within"]:
        click.echo(f"{result['network']} has no ban of its own; unban {', '.join(result['within'])}, which holds it")
    else:
        click.echo(f"{result['network']} was not banned; every RP was told to let it in all the same")
    sys.exit(1 if result["within"] else 0)


@main.command()
@click.option("--limit", default=50, type=click.IntRange(1), metavar="N", help="The N highest; the default is 50.")
@_as_json
@click.pass_obj
@_reported
def counters(config: str | None, limit: int, as_json: bool) -> None:
    """List who has failed lately, the highest counts first."""
    rows = Operator(_settings(config)).counters()[:limit]
    if as_json:
        _print_json(rows)
        return
    _print_table(
        ("network", "rule", "failures", "of", "forgotten in"),
        [(r["network"], r["rule"], r["count"], r["maxretry"], Milliseconds(r["ttl_ms"])) for r in rows],
        "nobody has failed lately",
    )


@main.command()
@click.argument("file", type=click.File("rb"), default="-")
@_as_json
@click.pass_obj
@_reported
def explain(config: str | None, file: BinaryIO, as_json: bool) -> None:
    """Tell what each line of FILE means; standard input by default. Needs no Redis."""
    rows = explaining.explained(file, _settings(config))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    found = list(rows)
    _print_table(
        ("line", "class", "address", "room", "rule"),
        [(i, r["class"], r["address"] or "", r["alias"] or "", r["rule"] or "") for i, r in enumerate(found, 1)],
        "no line",
    )
    click.echo(explaining.summary(found))


@main.command()
@click.pass_obj
@_reported
def run(config: str | None) -> None:
    """Run everything on this host, in the foreground, on an embedded store."""
    from pinban.run import run_all  # noqa: PLC0415  the operator's commands need none of it

    sys.exit(run_all(config))


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    if not rows:
        click.echo(empty)
        return
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    # To a file or pipe: whole lines, whatever their length.
    Console(markup=False, highlight=False, width=None if sys.stdout.isatty() else 200).print(table)


def _evidence(row: dict[str, Any]) -> str:
    if row["why"]:
        return str(row["why"])
    rooms = sorted({str(e.get("alias", "")) for e in row["evidence"]})
    rps = sorted({str(e.get("rp", "")) for e in row["evidence"]})
    return f"{len(row['evidence'])} failures; rooms {', '.join(rooms)}; by way of {', '.join(rps)}" if rooms else ""
