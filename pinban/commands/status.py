"""The state now: status, counters."""

from __future__ import annotations

import sys
from typing import Any

import click

from pinban.deployment import Operator
from pinban.options import as_json_option
from pinban.tables import print_json, print_line, print_table
from shared.durations import Milliseconds
from shared.settings import load


@click.command()
@as_json_option
@click.pass_obj
def status(config: str | None, as_json: bool) -> None:
    """Show the ledger, every daemon and what is wrong.

    The exit code is 1 if something is wrong.
    """
    report = Operator(load(config)).status()
    if as_json:
        print_json(report)
    else:
        _show_status(report)
    sys.exit(1 if report["problems"] else 0)


def _show_status(report: dict[str, Any]) -> None:
    """Print the ledger, the nodes, the log paths, hot rooms, notes and problems."""
    ledger = report["ledger"]
    print_line(
        f"ledger: epoch {ledger['epoch'] or '(none yet)'}, revision {ledger['rev']}, {ledger['bans']} banned now"
    )
    print_table(
        ("node", "does", "alive", "seen", "revision", "bans in kernel", "waiting", "drops", "backend"),
        [
            (
                node["name"],
                node.get("kind", ""),
                "yes" if node["alive"] else "NO",
                f"{Milliseconds(node['silent_ms'])} ago",
                node.get("applied_rev", ""),
                node.get("bans", "") if node.get("kind") == "enforcer" else "",
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
        print_line(f"  room {room} is under attack", fg="yellow")
    for note in report["notes"]:
        print_line(f"  {note}")
    for problem in report["problems"]:
        print_line(f"! {problem}", fg="red", bold=True)


@click.command()
@click.option("--limit", default=50, type=click.IntRange(1), metavar="N", help="The N highest; the default is 50.")
@as_json_option
@click.pass_obj
def counters(config: str | None, limit: int, as_json: bool) -> None:
    """List who has failed lately, the highest counts first."""
    rows = Operator(load(config)).counters()[:limit]
    if as_json:
        print_json(rows)
        return
    print_table(
        ("network", "rule", "failures", "of", "forgotten in"),
        [(r["network"], r["rule"], r["count"], r["maxretry"], Milliseconds(r["ttl_ms"])) for r in rows],
        "nobody has failed lately",
    )
