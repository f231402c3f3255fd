"""Commands that read files of nginx and of fail2ban. None needs Redis."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import BinaryIO

import click
from rich.text import Text

from pinban.options import as_json_option
from pinban.tables import console, print_line, print_table
from shared.printable import printable
from shared.settings import load

#: The colours of some classes, so that they are easy to see.
_COLOURS = {
    "wrong_pin": "bold red",
    "unknown_alias": "red",
    "registration": "red",
    "joined": "green",
    "malformed": "yellow",
    "other": "dim",
}


@click.command()
@click.argument("file", type=click.File("rb"), default="-")
@as_json_option
@click.pass_obj
def explain(config: str | None, file: BinaryIO, as_json: bool) -> None:
    """Tell what each line of a log FILE means.

    Without FILE it reads standard input. Needs no Redis.
    """
    from pinban.replay import explained, summary  # noqa: PLC0415  slow: loads the engine for failregex

    rows = explained(file, load(config))
    if as_json:
        for row in rows:
            click.echo(json.dumps(row))
        return
    found = list(rows)
    print_table(
        ("line", "class", "address", "room", "rule"),
        [
            (i, _styled(r["class"]), r["address"] or "", r["alias"] or "", r["rule"] or "")
            for i, r in enumerate(found, 1)
        ],
        "no lines",
    )
    print_line(summary(found))


def _styled(meaning: str) -> Text:
    """A class, in its colour if it has one."""
    return Text(meaning, style=_COLOURS.get(meaning, ""))


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--maxretry", metavar="N,N", help="Limits to try; the default is some around rules.pin.maxretry.")
@click.option("--findtime", metavar="TIME,TIME", help="Windows to try; the default is some around rules.pin.findtime.")
@click.option("--bantime", metavar="TIME", help="How long a ban lasts; the default is rules.pin.bantime.")
@click.option("--plot", metavar="FILE", help="Also draw a chart, as .svg or .png; needs matplotlib.")
@as_json_option
@click.pass_obj
def replay(  # a parameter for each option
    config: str | None,
    files: tuple[str, ...],
    maxretry: str | None,
    findtime: str | None,
    bantime: str | None,
    plot: str | None,
    as_json: bool,
) -> None:
    """Tell whom old logs would have banned, to choose limits.

    FILEs are access logs, plain or gzip; each line counts at the time that is written in it. Each client is counted by
    itself: the levels of wider networks are not tried. Needs no Redis.
    """
    from pinban.replay import run_replay  # noqa: PLC0415  slow: most commands do not need it

    sys.exit(run_replay(files, maxretry, findtime, bantime, plot, as_json, load(config), console()))


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="ACCESS_LOG...")
@as_json_option
@click.pass_obj
def calibrate(config: str | None, files: tuple[str, ...], as_json: bool) -> None:
    """Tell what each size of a refusal (403) probably is.

    ACCESS_LOGs are plain or gzip, of any format that the receiver reads. It prints the evidence, and the lines to put
    into the settings. A size that may be a wrong PIN stays one. Needs no Redis.
    """
    from pinban.calibrate import run_calibrate  # noqa: PLC0415  slow: loads the engine for failregex

    run_calibrate(files, as_json, load(config), console())


@click.command("import-fail2ban")
@click.argument("jail", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("filters", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILTER...")
def import_fail2ban(jail: Path, filters: tuple[Path, ...]) -> None:
    """Print fail2ban's jails as settings of pinban.

    JAIL is a jail.local or jail.conf, FILTER a file of filter.d that JAIL names. Notes on standard error say what
    pinban cannot do.
    """
    from pinban.fail2ban import import_jails  # noqa: PLC0415  slow: loads the engine for failregex

    imported = import_jails([jail], filters)
    click.echo(printable(imported.toml, breaks=True), nl=False)
    for note in imported.notes:
        print_line(f"note: {' '.join(note.split())}", err=True)
