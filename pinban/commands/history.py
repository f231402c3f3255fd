"""Past bans, unbans and rooms under attack: history."""

from __future__ import annotations

import click

from pinban.deployment import Operator
from pinban.options import Address, as_json_option
from pinban.tables import local_time, print_json, print_table
from shared.ledger import History, sentence
from shared.settings import load
from shared.store import PATIENT_S, connect


@click.command()
@click.argument("address", type=Address(), required=False)
@click.option("-n", "--limit", default=50, type=click.IntRange(1), metavar="N", help="The newest N; the default is 50.")
@as_json_option
@click.pass_obj
def history(config: str | None, address: str | None, limit: int, as_json: bool) -> None:
    """Show past bans, unbans and rooms under attack.

    Those of ADDRESS, or all of them; the newest is last.
    """
    settings = load(config)
    network = Operator(settings).network(address) if address else ""
    rows = History(connect(settings, "operator", PATIENT_S)).newest(limit, network)
    if as_json:
        print_json(rows)
        return
    print_table(("when", "what"), [(local_time(row), sentence(row)) for row in rows], "nothing has happened yet")
