"""The command line: its group, and what all commands take. The commands are in pinban/commands."""

from __future__ import annotations

import click

from pinban.commands import COMMANDS


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-c", "--config", metavar="FILE", help="Settings, a TOML file.")
@click.version_option(package_name="pinban")
@click.pass_context
def main(context: click.Context, config: str | None) -> None:
    """Ban conference-PIN guessers on every reverse proxy of a Pexip deployment."""
    context.obj = config


for _command in COMMANDS:
    main.add_command(_command)
