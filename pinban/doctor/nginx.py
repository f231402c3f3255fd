"""Faults in an RP's nginx configuration: lines that reach no receiver, and lines that a client can suppress.

Reads files; runs no nginx.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import crossplane

from pinban.doctor.finding import Finding

#: Blocks that inherit directives from the block around them.
_BLOCKS = ("http", "server", "location", "if", "limit_except")

#: Arguments of a location, joined, that can match requests for a conference token.
_API = re.compile(r"(\^?~\*?)?\^?/?(api(/.*)?)?\$?")


@dataclass(frozen=True, slots=True)
class _Block:
    """A block, and what is in force in it."""

    line: Mapping[str, Any]  #: its directive, as crossplane parses it
    logs: tuple[Mapping[str, Any], ...]  #: the access_log lines in force
    inherited: tuple[Mapping[str, Any], ...]  #: the access_log lines of the block around it
    waits: bool  #: proxy_ignore_client_abort is on

    @property
    def place(self) -> str:
        return f"{self.line['file']}:{self.line['line']}"

    @property
    def name(self) -> str:
        return " ".join([self.line["directive"], *self.line["args"]])


def examine(file: Path) -> Iterator[Finding]:
    """What is right and wrong in an nginx.conf and in the files that it includes."""
    parsed = crossplane.parse(str(file), combine=True, catch_errors=True, check_ctx=False, check_args=False)
    for error in parsed["errors"]:
        yield Finding("note", "nginx", f"{error['file']}:{error['line'] or 0}: {error['error']}")
    lines = parsed["config"][0]["parsed"] if parsed["config"] else []
    http = next((line for line in lines if line["directive"] == "http"), None)
    if http is None:
        yield Finding("bad", "nginx", f"{file} has no http block; name the nginx.conf with --nginx")
        return
    blocks = list(_blocks(http, (), waits=False))
    formats = {line["args"][0]: line for line in _all(http) if line["directive"] == "log_format" and line["args"]}
    yield from _sent(blocks, formats, file)
    yield from _lost(blocks)
    for line in [line for line in _all(http) if line["directive"] == "set_real_ip_from"][:1]:
        yield Finding(
            "note",
            "nginx",
            f"{line['file']}:{line['line']}: set_real_ip_from: clients' addresses come from a header. Trust only your"
            " own load balancers, or a client can choose who is banned. If packets come from the balancer's address, a"
            " ban drops nobody here; make the balancer keep the client's source address",
        )


def _sent(blocks: Sequence[_Block], formats: Mapping[str, Any], file: Path) -> Iterator[Finding]:
    logs = {id(log): log for block in blocks for log in block.logs if _to_syslog(log)}.values()
    ours = [log for log in logs if _is_ours(log, formats)]
    if not logs:
        yield Finding("bad", "nginx", f"{file}: no access_log goes to syslog; include pinban.conf in the http block")
    for log in logs:
        where = f"{log['file']}:{log['line']}"
        target = log["args"][0]
        if log in ours:
            yield Finding("ok", "nginx", f"{where}: sends every request for a conference token to {_server(target)}")
        else:
            name = log["args"][1] if len(log["args"]) > 1 else "combined"
            yield Finding(
                "bad" if not ours else "note",
                "nginx",
                f"{where}: the format {name} has text from clients, so a guesser can make a line too long for a"
                " datagram; nginx then drops the line without an error. Use the format pinban of pinban.conf",
            )


def _lost(blocks: Sequence[_Block]) -> Iterator[Finding]:
    """Blocks that do not log to syslog as the block around them does, and proxies that do not wait for the node."""
    for block in blocks:
        if any(map(_to_syslog, block.inherited)) and not any(map(_to_syslog, block.logs)):
            yield Finding(
                "bad",
                "nginx",
                f"{block.place}: {block.name} has an access_log of its own, which replaces all that it inherits:"
                " requests there are not counted; add pinban's access_log line there too",
            )
        proxies = any(line["directive"] == "proxy_pass" for line in block.line["block"])
        if proxies and not block.waits and block.line["directive"] == "location" and _may_be_api(block.line["args"]):
            yield Finding(
                "note",
                "nginx",
                f"{block.place}: {block.name} does not wait for the node when a client disconnects, and logs 499"
                " instead of the node's answer; set proxy_ignore_client_abort on",
            )


def _blocks(line: Mapping[str, Any], logs: tuple[Mapping[str, Any], ...], *, waits: bool) -> Iterator[_Block]:
    inside = line.get("block", [])
    own = tuple(each for each in inside if each["directive"] == "access_log")
    for each in inside:
        if each["directive"] == "proxy_ignore_client_abort":
            waits = each["args"] == ["on"]
    yield _Block(line, own or logs, logs, waits)
    for each in inside:
        if each["directive"] in _BLOCKS:
            yield from _blocks(each, own or logs, waits=waits)


def _all(line: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for each in line.get("block", []):
        yield each
        yield from _all(each)


def _to_syslog(log: Mapping[str, Any]) -> bool:
    return bool(log["args"]) and log["args"][0].startswith("syslog:")


def _is_ours(log: Mapping[str, Any], formats: Mapping[str, Any]) -> bool:
    """Whether its format has pinban's fields; its name may be any."""
    known = formats.get(log["args"][1]) if len(log["args"]) > 1 else None
    return known is not None and "".join(known["args"][1:]).removeprefix("escape=json").startswith('{"v":1,')


def _server(target: str) -> str:
    found = re.search(r"server=([^,]+)", target)
    return found[1] if found else target


def _may_be_api(arguments: Sequence[str]) -> bool:
    return _API.fullmatch("".join(arguments)) is not None
