"""Who is banned: bans, ban, unban."""

from __future__ import annotations

import sys
from typing import Any

import click

from pinban.deployment import Operator
from pinban.options import Length, as_json_option, reported
from pinban.tables import print_json, print_table
from shared.durations import Milliseconds
from shared.settings import load


@click.command()
@as_json_option
@click.pass_obj
@reported
def bans(config: str | None, as_json: bool) -> None:
    """List who is banned now, why, and for how much longer."""
    rows = Operator(load(config)).bans()
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


def evidence_of(row: dict[str, Any]) -> str:
    """Why a network is banned, in a few words."""
    if row["why"]:
        return str(row["why"])
    rooms = sorted({str(e.get("alias", "")) for e in row["evidence"]})
    rps = sorted({str(e.get("rp", "")) for e in row["evidence"]})
    return f"{len(row['evidence'])} failures; rooms {', '.join(rooms)}; by way of {', '.join(rps)}" if rooms else ""


@click.command()
@click.argument("address")
@click.option("--for", "bantime", type=Length(), metavar="TIME", help="How long; the default is rules.pin.bantime.")
@click.option("--why", default="", metavar="TEXT", help="A note for the history.")
@as_json_option
@click.pass_obj
@reported
def ban(config: str | None, address: str, bantime: Milliseconds | None, why: str, as_json: bool) -> None:
    """Ban an ADDRESS or network on every RP. A standing ban is made longer, never shorter."""
    settings = load(config)
    length = bantime or settings.rules["pin"].bantime
    result = Operator(settings).ban(address, int(length), why)
    if as_json:
        print_json(result)
    elif result["new"]:
        click.echo(f"banned {result['network']} for {length}")
    else:
        click.echo(f"{result['network']} is banned for another {Milliseconds(result['left_ms'])} already")


@click.command()
@click.argument("address")
@click.option("--why", default="", metavar="TEXT", help="A note for the history.")
@as_json_option
@click.pass_obj
@reported
def unban(config: str | None, address: str, why: str, as_json: bool) -> None:
    """End the ban of an ADDRESS or network on every RP; forget its failures and strikes."""
    result = Operator(load(config)).unban(address, why)
    if as_json:
        print_json(result)
    elif result["was_banned"]:
        click.echo(f"unbanned {result['network']}")
    elif result["within"]:
        click.echo(f"{result['network']} has no ban of its own; unban {', '.join(result['within'])}, which holds it")
    else:
        click.echo(f"{result['network']} was not banned; every RP was told to let it in all the same")
    sys.exit(1 if result["within"] else 0)
