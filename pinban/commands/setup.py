"""Before and beside the daemons: check, doctor, acl."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from pinban.deployment import file_of, hashes_of, users
from pinban.options import as_json_option, reported
from pinban.tables import print_json
from shared.settings import DEFAULT_FILE, load, secret_of
from shared.store import check_secrets

_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


@click.command()
@click.pass_obj
@reported
def check(config: str | None) -> None:
    """Read the settings, all patterns and secrets, and say whether a daemon would start with them."""
    from receiver.lines import Rulebook  # noqa: PLC0415  it loads the engine of rules of one's own

    settings = load(config)
    Rulebook(settings)
    check_secrets(settings)
    secret_of("mail.password_file", settings.mail.password_file)
    names = [name + (" (simulated)" if rule.simulate else "") for name, rule in settings.rules.items() if rule.enabled]
    where = config or DEFAULT_FILE
    click.echo(f"{where} is good; rules: {', '.join(names) or 'none'}")


@click.command()
@click.option(
    "--nginx",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The default is /etc/nginx/nginx.conf.",
)
@as_json_option
@click.pass_obj
@reported
def doctor(config: str | None, nginx: Path | None, as_json: bool) -> None:
    """Look for whatever quietly costs bans or counts, here and in Redis; exit code 1 when something does."""
    from pinban.doctor import examine  # noqa: PLC0415  it loads a parser of nginx's language

    found = []
    for finding in examine(load(config), nginx):
        found.append(finding)
        if not as_json:
            click.echo(
                f"{click.style(f'{finding.state:4}', fg=_COLOURS[finding.state])} {finding.subject}: {finding.text}"
            )
    if as_json:
        print_json([asdict(finding) for finding in found])
    sys.exit(1 if any(finding.state == "bad" for finding in found) else 0)


@click.command()
@click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
@click.option(
    "--passwords",
    default="passwords",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder with a file for each user; what is missing is made. The default is ./passwords.",
)
@click.pass_obj
@reported
def acl(config: str | None, nodes: tuple[str, ...], passwords: Path) -> None:
    """Print an ACL file for Redis 7.0 or newer: a receiver, an operator, and an enforcer for each NODE.

    Passwords are hashed in it. To add a reverse proxy or to change a password, run it again.
    """
    hashes = hashes_of(passwords, users(nodes))
    click.echo(file_of(load(config).redis.prefix, nodes, hashes), nl=False)
