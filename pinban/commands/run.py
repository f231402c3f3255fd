"""Everything on one host: run."""

from __future__ import annotations

import sys

import click


@click.command()
@click.pass_obj
def run(config: str | None) -> None:
    """Run everything on this host, in the foreground.

    Receiver, enforcer and a Redis of its own, unless redis.url names one. Ctrl-C ends it.
    """
    from pinban.local import run_all  # noqa: PLC0415  the operator's commands need none of it

    sys.exit(run_all(config))
