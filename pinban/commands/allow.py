"""Who is let in: allow, trust."""

from __future__ import annotations

from typing import Any

import click

from pinban.deployment import Operator
from pinban.options import Length, as_json_option, reported
from pinban.tables import print_json, print_table
from shared.durations import Milliseconds
from shared.settings import load


@click.command()
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
    operator = Operator(load(config))
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


@click.command()
@click.argument("sender")
@as_json_option
@click.pass_obj
@reported
def trust(config: str | None, sender: str, as_json: bool) -> None:
    """Let the lines of SENDER, an RP's address, ban again, although they banned too many (receiver.doubt_above)."""
    result = Operator(load(config)).trust(sender)
    if as_json:
        print_json(result)
    else:
        click.echo(f"{result['sender']} {'is trusted again' if result['was_doubted'] else 'was trusted already'}")
