"""The command line: its words, its exit codes, one clear line for every error. What the commands do is elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import BinaryIO

import click
from rich.console import Console

from pinban.commands import acl, check, doctor, history, top, watch
from pinban.deployment import Operator
from pinban.options import Length, as_json_option, reported
from pinban.tables import evidence_of, print_json, print_table, show_allowed, show_status, styled
from shared.durations import Milliseconds
from shared.settings import Settings, load


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", metavar="FILE", help="Settings, a TOML file.")
@click.version_option(package_name="pinban")
@click.pass_context
def main(context: click.Context, config: str | None) -> None:
    """Ban conference-PIN guessers on every reverse proxy of a Pexip deployment."""
    context.obj = config


for _command in (history, watch, top, check, doctor, acl):
    main.add_command(_command)


def _settings(config: str | None) -> Settings:
    return load(config)


@main.command()
@as_json_option
@click.pass_obj
@reported
def status(config: str | None, as_json: bool) -> None:
    """Show the ledger and every daemon; exit code 1 when something is wrong."""
    report = Operator(_settings(config)).status()
    if as_json:
        print_json(report)
    else:
        show_status(report)
    sys.exit(1 if report["problems"] else 0)


@main.command()
@as_json_option
@click.pass_obj
@reported
def bans(config: str | None, as_json: bool) -> None:
    """List who is banned now, why, and for how much longer."""
    rows = Operator(_settings(config)).bans()
    if as_json:
        print_json(rows)
        return
    print_table(
        ("network", "left", "rule", "strikes", "evidence", "by"),
        [
            (
                r["network"],
                Milliseconds(r["left_ms"]),
                r["rule"] + (" (simulated)" if r["simulated"] else ""),
                r["strikes"],
                evidence_of(r),
                r["by"],
            )
            for r in rows
        ],
        "nobody is banned",
    )


@main.command()
@click.argument("address")
@click.option("--for", "bantime", type=Length(), metavar="TIME", help="How long; the default is rules.pin.bantime.")
@click.option("--why", default="", metavar="TEXT", help="A note for the history.")
@as_json_option
@click.pass_obj
@reported
def ban(config: str | None, address: str, bantime: Milliseconds | None, why: str, as_json: bool) -> None:
    """Ban an ADDRESS or network on every RP. A standing ban is made longer, never shorter."""
    settings = _settings(config)
    length = bantime or settings.rules["pin"].bantime
    result = Operator(settings).ban(address, int(length), why)
    if as_json:
        print_json(result)
    elif result["new"]:
        click.echo(f"banned {result['network']} for {length}")
    else:
        click.echo(f"{result['network']} is banned for another {Milliseconds(result['left_ms'])} already")


@main.command()
@click.argument("address")
@click.option("--why", default="", metavar="TEXT", help="A note for the history.")
@as_json_option
@click.pass_obj
@reported
def unban(config: str | None, address: str, why: str, as_json: bool) -> None:
    """End the ban of an ADDRESS or network on every RP; forget its failures and strikes."""
    result = Operator(_settings(config)).unban(address, why)
    if as_json:
        print_json(result)
    elif result["was_banned"]:
        click.echo(f"unbanned {result['network']}")
    elif result["within"]:
        click.echo(f"{result['network']} has no ban of its own; unban {', '.join(result['within'])}, which holds it")
    else:
        click.echo(f"{result['network']} was not banned; every RP was told to let it in all the same")
    sys.exit(1 if result["within"] else 0)


@main.command()
@click.argument("address", required=False)
@click.option("--for", "length", type=Length(), metavar="TIME", help="How long; the default is for ever.")
@click.option("--note", default="", metavar="TEXT", help="Why, for whoever reads the list.")
@click.option("--remove", is_flag=True, help="Take ADDRESS off the list.")
@as_json_option
@click.pass_obj
@reported
def allow(  # an option each
    config: str | None, address: str | None, length: Milliseconds | None, note: str, remove: bool, as_json: bool
) -> None:
    """Never count, ban or drop an ADDRESS or network; without ADDRESS show the list. Ends standing bans at once."""
    operator = Operator(_settings(config))
    if address is None:
        show_allowed(operator.allowed(), as_json)
        return
    if remove:
        result = operator.disallow(address)
        text = "is off the allow-list" if result["was_allowed"] else "was not on the allow-list"
    else:
        result = operator.allow(address, int(length) if length else None, note)
        text = f"is allowed{f' for {length}' if length else ''}; bans lifted: {result['lifted']}"
    if as_json:
        print_json(result)
    else:
        click.echo(f"{result['network']} {text}")


@main.command()
@click.argument("sender")
@as_json_option
@click.pass_obj
@reported
def trust(config: str | None, sender: str, as_json: bool) -> None:
    """Let the lines of SENDER, an RP's address, ban again, although they banned too many (receiver.doubt_above)."""
    result = Operator(_settings(config)).trust(sender)
    if as_json:
        print_json(result)
    else:
        click.echo(f"{result['sender']} {'is trusted again' if result['was_doubted'] else 'was trusted already'}")


@main.command()
@click.option("--limit", default=50, type=click.IntRange(1), metavar="N", help="The N highest; the default is 50.")
@as_json_option
@click.pass_obj
@reported
def counters(config: str | None, limit: int, as_json: bool) -> None:
    """List who has failed lately, the highest counts first."""
    rows = Operator(_settings(config)).counters()[:limit]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("network", "rule", "failures", "of", "forgotten in"),
        [(r["network"], r["rule"], r["count"], r["maxretry"], Milliseconds(r["ttl_ms"])) for r in rows],
        "nobody has failed lately",
    )


@main.command()
@click.argument("file", type=click.File("rb"), default="-")
@as_json_option
@click.pass_obj
@reported
def explain(config: str | None, file: BinaryIO, as_json: bool) -> None:
    """Tell what each line of FILE means; standard input by default. Needs no Redis."""
    from pinban.replay import explained, summary  # noqa: PLC0415  it loads the engine of rules of one's own

    rows = explained(file, _settings(config))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    found = list(rows)
    print_table(
        ("line", "class", "address", "room", "rule"),
        [
            (i, styled(r["class"]), r["address"] or "", r["alias"] or "", r["rule"] or "")
            for i, r in enumerate(found, 1)
        ],
        "no line",
    )
    click.echo(summary(found))


@main.command("import-fail2ban")
@click.argument("jail", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("filters", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILTER...")
@reported
def import_fail2ban(jail: Path, filters: tuple[Path, ...]) -> None:
    """Print settings that do what a JAIL file of fail2ban and its FILTERs do.

    What has no counterpart is told on standard error.
    """
    from pinban.fail2ban import import_jails  # noqa: PLC0415  the engine takes its time to load

    imported = import_jails([jail], filters)
    click.echo(imported.toml, nl=False)
    for note in imported.notes:
        click.echo(f"note: {note}", err=True)


@main.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--maxretry", metavar="N,N", help="Limits to try; the default lies around the rule's.")
@click.option("--findtime", metavar="TIME,TIME", help="Windows to try; the default lies around the rule's.")
@click.option("--bantime", metavar="TIME", help="How long a ban lasts; the default is the rule's.")
@click.option("--plot", metavar="FILE", help="Draw it, as .svg or .png; needs pinban[plot].")
@as_json_option
@click.pass_obj
@reported
def replay(  # an option each
    config: str | None,
    files: tuple[str, ...],
    maxretry: str | None,
    findtime: str | None,
    bantime: str | None,
    plot: str | None,
    as_json: bool,
) -> None:
    """Tell who would have been banned: old access logs, plain or gzip, on their own time. To choose limits by."""
    from pinban.replay import run_replay  # noqa: PLC0415  the operator's commands need none of it

    sys.exit(run_replay(files, maxretry, findtime, bantime, plot, as_json, _settings(config), Console()))


@main.command()
@click.pass_obj
@reported
def run(config: str | None) -> None:
    """Run everything on this host, in the foreground, on an embedded store."""
    from pinban.local import run_all  # noqa: PLC0415  the operator's commands need none of it

    sys.exit(run_all(config))
