"""Bans: list, add and end them (bans, ban, unban)."""

from __future__ import annotations

import sys
from typing import Any

import click

from pinban.deployment import Operator
from pinban.options import Address, Length, Note, as_json_option
from pinban.tables import print_json, print_line, print_table
from shared.durations import Milliseconds
from shared.settings import load


@click.command()
@as_json_option
@click.pass_obj
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
                _evidence_of(r),
                r["by"],
            )
            for r in rows
        ],
        "nobody is banned",
    )


def _evidence_of(row: dict[str, Any]) -> str:
    """Why a network is banned, in a few words; "" if that is not known."""
    if row["why"]:
        return str(row["why"])
    failures = [each for each in row["evidence"] if isinstance(each, dict)]
    rooms = sorted({str(each.get("alias", "")) for each in failures})
    rps = sorted({str(each.get("rp", "")) for each in failures})
    return f"{len(failures)} failures; rooms {', '.join(rooms)}; through {', '.join(rps)}" if rooms else ""


@click.command()
@click.argument("address", type=Address())
@click.option("--for", "bantime", type=Length(), metavar="TIME", help="How long; the default is rules.pin.bantime.")
@click.option("--why", type=Note(), default="", metavar="TEXT", help="A note for the history.")
@as_json_option
@click.pass_obj
def ban(config: str | None, address: str, bantime: Milliseconds | None, why: str, as_json: bool) -> None:
    """Ban an ADDRESS or network on every RP.

    If it is banned already, the ban becomes longer, never shorter.
    """
    settings = load(config)
    length = bantime or settings.rules["pin"].bantime
    result = Operator(settings).ban(address, int(length), why)
    if as_json:
        print_json(result)
    elif result["new"]:
        print_line(f"banned {result['network']} for {length}")
    else:
        print_line(f"{result['network']} is banned for another {Milliseconds(result['left_ms'])} already; no change")


@click.command()
@click.argument("address", type=Address())
@click.option("--why", type=Note(), default="", metavar="TEXT", help="A note for the history.")
@as_json_option
@click.pass_obj
def unban(config: str | None, address: str, why: str, as_json: bool) -> None:
    """End the ban of an ADDRESS or network on every RP.

    Its failures and strikes are deleted. The exit code is 1 if a ban of a larger network still covers it.
    """
    result = Operator(load(config)).unban(address, why)
    if as_json:
        print_json(result)
    elif result["was_banned"]:
        print_line(f"unbanned {result['network']}")
    elif result["within"]:
        print_line(f"{result['network']} has no ban of its own; unban {', '.join(result['within'])}, which covers it")
    else:
        print_line(f"{result['network']} was not banned; every RP was told to let it in anyway")
    sys.exit(1 if result["within"] else 0)
