"""Receiver, enforcer and Redis on one host: run."""

from __future__ import annotations

import sys

import click


@click.command()
@click.pass_obj
def run(config: str | None) -> None:
    """Run everything on this host, in the foreground.

    It starts a receiver, an enforcer and, unless redis.url is set, a Redis server. Ctrl-C ends it.
    """
    from pinban.local import run_all  # noqa: PLC0415  slow: the other commands do not need it

    sys.exit(run_all(config))
