"""Clients that are never banned, and senders whose lines ban again: allow, trust."""

from __future__ import annotations

from typing import Any

import click

from pinban.deployment import Operator
from pinban.options import Address, Length, Note, as_json_option
from pinban.tables import print_json, print_line, print_table
from shared.durations import Milliseconds
from shared.settings import load


@click.command()
@click.argument("address", type=Address(), required=False)
@click.option("--for", "length", type=Length(), metavar="TIME", help="How long; the default is for ever.")
@click.option("--note", type=Note(), default="", metavar="TEXT", help="The reason; the list shows it.")
@click.option("--remove", is_flag=True, help="Remove ADDRESS from the list.")
@as_json_option
@click.pass_obj
def allow(  # a parameter for each option
    config: str | None, address: str | None, length: Milliseconds | None, note: str, remove: bool, as_json: bool
) -> None:
    """Never count, ban or drop an ADDRESS; or show the list.

    ADDRESS may be a network. Bans of it, of addresses in it and of a network around it end at once. Without ADDRESS
    the list is shown.
    """
    if address is None and (remove or length or note):
        raise click.UsageError("Name the ADDRESS that --remove, --for or --note is about.")
    if remove and (length or note):
        raise click.UsageError("--remove takes neither --for nor --note; leave them out.")
    operator = Operator(load(config))
    if address is None:
        _show_allowed(operator.allowed(), as_json)
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
        print_line(f"{result['network']} {text}")


def _show_allowed(rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print the allow-list."""
    if as_json:
        print_json(rows)
        return
    print_table(
        ("network", "left", "note"),
        [(r["network"], "for ever" if r["left_ms"] is None else Milliseconds(r["left_ms"]), r["note"]) for r in rows],
        "the allow-list is empty",
    )


@click.command()
@click.argument("sender", type=Address("local"))
@as_json_option
@click.pass_obj
def trust(config: str | None, sender: str, as_json: bool) -> None:
    """End the doubt about the lines of a SENDER.

    SENDER is an RP's address, or local for the receiver's own host. A sender is doubted when its lines ban more
    networks in a minute than receiver.doubt_above.
    """
    result = Operator(load(config)).trust(sender)
    if as_json:
        print_json(result)
    else:
        print_line(f"{result['sender']} {'is trusted again' if result['was_doubted'] else 'was not in doubt'}")
