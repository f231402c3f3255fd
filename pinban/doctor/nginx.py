"""Faults in an RP's nginx configuration: lines that reach no receiver, and guesses that a client can hide.

Reads files; runs no nginx. blocks.py says what is in force where, hiding.py and listening.py what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import crossplane

from pinban.doctor.blocks import Block, Directive, blocks, directives, place_of
from pinban.doctor.finding import Finding
from pinban.doctor.hiding import Sight, best_sight, hidden, sight_of, to_syslog
from pinban.doctor.listening import apis, balanced, listening
from shared.settings import Enforcer


def examine(file: Path, enforcer: Enforcer) -> Iterator[Finding]:
    """What is right and wrong in an nginx.conf and in the files that it includes, beside these settings."""
    parsed = crossplane.parse(str(file), catch_errors=True, check_ctx=False, check_args=False)
    for error in parsed["errors"]:
        yield Finding("note", "nginx", f"{error['file']}:{error['line'] or 0}: {error['error']}")
    files = parsed["config"]
    lines = _combined(files[0], files) if files else ()
    http = next((line for line in lines if line["directive"] == "http"), None)
    if http is None:
        yield Finding("bad", "nginx", f"{file} has no http block; name the nginx.conf with --nginx")
        return
    found = list(blocks(http))
    every = list(directives(http))
    formats = {line["args"][0]: line for line in every if line["directive"] == "log_format" and line["args"]}
    yield from _sent(found, formats, file)
    yield from _replaced(found)
    api = [block for block in found if block.proxies_api]
    offers = any(line["directive"] == "map" and line["args"][-1:] == ["$pinban_cross_site"] for line in every)
    for block in api:
        yield from hidden(block, best_sight(block, formats), offers)
    yield from listening(apis(api), enforcer)
    yield from balanced(every)


def _combined(file: Directive, files: Sequence[Directive], block: Any = None) -> Iterator[Directive]:
    """The lines of a file or of a block in it, each with the file that it stands in, and included lines in their place.

    crossplane's own way (combine=True) gives lines behind an include the name of the included file.
    """
    for line in file["parsed"] if block is None else block:
        if "includes" in line:
            for index in line["includes"]:
                yield from _combined(files[index], files)
            continue
        if "file" not in line:  # else the file is included twice
            line["file"] = file["file"]
            if "block" in line:
                line["block"] = list(_combined(file, files, line["block"]))
        yield line


def _sent(found: Sequence[Block], formats: Mapping[str, Directive], file: Path) -> Iterator[Finding]:
    logs = {id(log): log for block in found for log in block.in_force("access_log") if to_syslog(log)}.values()
    seen = {id(log): sight_of(log, formats) for log in logs}
    if not logs:
        yield Finding("bad", "nginx", f"{file}: no access_log goes to syslog; include pinban.conf in the http block")
    for log in logs:
        where = place_of(log)
        match seen[id(log)]:
            case Sight.FULL:
                target = _server(log["args"][0])
                yield Finding("ok", "nginx", f"{where}: sends every request for a conference token to {target}")
            case Sight.OLD:
                yield Finding(
                    "bad",
                    "nginx",
                    f"{where}: the format {log['args'][1]} is that of an earlier pinban.conf, from which a rewrite or"
                    " an error page hides guesses, and which cannot tell whom a web page made ask; replace the included"
                    " file by the pinban.conf of this version",
                )
            case _:
                name = log["args"][1] if len(log["args"]) > 1 else "combined"
                yield Finding(
                    "note" if {Sight.FULL, Sight.OLD} & set(seen.values()) else "bad",
                    "nginx",
                    f"{where}: the format {name} has text from clients, so a guesser can make a line too long for a"
                    " datagram; nginx then drops the line without an error. Use the format pinban of pinban.conf",
                )


def _replaced(found: Sequence[Block]) -> Iterator[Finding]:
    """Blocks that do not log to syslog as the block around them does."""
    for block in found:
        inherited = block.around.in_force("access_log") if block.around is not None else []
        if any(map(to_syslog, inherited)) and not any(map(to_syslog, block.in_force("access_log"))):
            yield Finding(
                "bad",
                "nginx",
                f"{block.place}: {block.name} has an access_log of its own, which replaces all that it inherits:"
                " requests there are not counted; add pinban's access_log line there too",
            )


def _server(target: str) -> str:
    found = re.search(r"server=([^,]+)", target)
    return found[1] if found else target
