"""Commands to set a deployment up, and to find out why it does not work: check, doctor, acl."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click

from pinban.deployment import file_of, hashes_of, users
from pinban.options import as_json_option
from pinban.tables import print_json, print_line
from shared.printable import printable
from shared.settings import DEFAULT_FILE, Settings, load, secret_of
from shared.store import check_redis

_COLOURS = {"ok": "green", "note": "yellow", "bad": "red"}


@click.command()
@click.pass_obj
def check(config: str | None) -> None:
    """Say whether a daemon would start with these settings.

    It also reads all patterns and password files, and names settings that contradict each other. Needs no Redis.
    """
    from receiver.lines import Rulebook  # noqa: PLC0415  slow: loads the engine for failregex

    settings = load(config)
    Rulebook(settings)
    check_redis(settings)
    secret_of("mail.password_file", settings.mail.password_file)
    names = [name + (" (simulated)" if rule.simulate else "") for name, rule in settings.rules.items() if rule.enabled]
    found = config or (DEFAULT_FILE if os.path.lexists(DEFAULT_FILE) else f"defaults, as there is no {DEFAULT_FILE}")
    print_line(f"the settings are good ({found}); rules: {', '.join(names) or 'none'}")
    for note in _contradictions(settings):
        print_line(f"note: {note}")


def _contradictions(settings: Settings) -> Iterator[str]:
    """Settings that a daemon starts with, and that are hardly meant so."""
    receiver, hot, usual = settings.receiver, settings.rooms.hot_maxretry, settings.rules["pin"].maxretry
    for name, sizes in (
        ("prompt_bytes", receiver.prompt_bytes),
        ("refused_otherwise_bytes", receiver.refused_otherwise_bytes),
    ):
        if both := sorted({*receiver.wrong_pin_bytes} & {*sizes}):
            named = ", ".join(map(str, both))
            yield f"receiver.wrong_pin_bytes and receiver.{name} both have {named}, and it means a wrong PIN"
    if settings.rooms.failures and hot >= usual:
        yield f"rooms.hot_maxretry = {hot} is not below rules.pin.maxretry = {usual}: a hot room changes nothing"


@click.command()
@click.option(
    "--nginx",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="nginx's settings; the default is /etc/nginx/nginx.conf.",
)
@as_json_option
@click.pass_obj
def doctor(config: str | None, nginx: Path | None, as_json: bool) -> None:
    """Find faults that lose bans or failures without an error.

    It looks at this host, its nginx, Redis and all daemons, and changes nothing. The exit code is 1 if it finds such a
    fault.
    """
    from pinban.doctor import examine  # noqa: PLC0415  slow: loads a parser for nginx's configuration

    found = []
    for finding in examine(load(config), nginx):
        found.append(finding)
        if not as_json:
            state = click.style(f"{finding.state:4}", fg=_COLOURS[finding.state])
            click.echo(f"{state} {printable(f'{finding.subject}: {finding.text}')}")
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
    help="A folder with a file for each user; a missing one is made. The default is ./passwords.",
)
@click.pass_obj
def acl(config: str | None, nodes: tuple[str, ...], passwords: Path) -> None:
    """Print an ACL file for Redis, with a user for each daemon.

    The users are receiver, operator, and enforcer-NODE for each NODE; NODE is the value of enforcer.node on an RP. The
    file holds hashes of the passwords. To add an RP or to change a password, run it again. It needs Redis 7.0 or
    newer.
    """
    hashes = hashes_of(passwords, users(nodes))
    click.echo(file_of(load(config).redis.prefix, nodes, hashes), nl=False)
