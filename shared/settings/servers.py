"""Reads a redis.url that names several servers: sentinels, or the nodes of a cluster. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote

Address = tuple[str, int]  #: host, port

#: The port of a sentinel and of a cluster's node, if the URL gives none.
_PORTS = {"sentinel": 26_379, "cluster": 6_379}

_URL = re.compile(
    r"(?P<kind>sentinel|cluster)://"
    r"(?:(?P<username>[^:@/]*)(?::(?P<password>.*))?@)?"
    r"(?P<hosts>[^/@]+)"
    r"(?:/(?P<name>[^/@]*)(?:/(?P<db>[0-9]{1,5}))?)?/?"
)

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[^:\[\]\s]+))(?::(?P<port>[0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Servers:
    """The servers that know which server to use."""

    kind: Literal["sentinel", "cluster"]
    hosts: tuple[Address, ...]
    name: str = ""  #: what the sentinels call the master
    db: int = 0
    #: Username and password from the URL, under redis-py's names.
    credentials: dict[str, str] = field(default_factory=dict)


def parse_servers(url: str) -> Servers | None:
    """The servers of sentinel://HOST:PORT,HOST/NAME/DB or cluster://HOST:PORT,HOST; None for a single server's URL.

    ValueError, without the password in its text, when the URL begins so and cannot be read.
    """
    if not url.startswith(("sentinel:", "cluster:")):
        return None
    matched = _URL.fullmatch(url)
    if matched is None:
        raise ValueError("write sentinel://HOST:PORT,HOST/NAME/DB or cluster://HOST:PORT,HOST")
    kind: Literal["sentinel", "cluster"] = "sentinel" if matched["kind"] == "sentinel" else "cluster"
    name = unquote(matched["name"] or "")
    if kind == "sentinel" and not name:
        raise ValueError("it names no master; write sentinel://HOST,HOST/NAME, with the name that the sentinels use")
    if kind == "cluster" and name not in ("", "0"):
        raise ValueError("a cluster has no database numbers; write cluster://HOST:PORT,HOST")
    given = {key: unquote(matched[key]) for key in ("username", "password") if matched[key]}
    hosts = tuple(_address(host, _PORTS[kind]) for host in matched["hosts"].split(","))
    return Servers(kind, hosts, name if kind == "sentinel" else "", int(matched["db"] or 0), given)


def _address(text: str, port: int) -> Address:
    matched = _HOST.fullmatch(text.strip())
    if matched is None or not 0 < int(matched["port"] or port) < 65_536:
        raise ValueError(f"{text.strip()!r} is not HOST:PORT")
    return matched["v6"] or matched["host"], int(matched["port"] or port)
