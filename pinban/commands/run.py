"""All on this host: run."""

from __future__ import annotations

import sys

import click

from pinban.options import reported


@click.command()
@click.pass_obj
@reported
def run(config: str | None) -> None:
    """Run everything on this host, in the foreground, on an embedded store."""
    from pinban.local import run_all  # noqa: PLC0415  the operator's commands need none of it

    sys.exit(run_all(config))
