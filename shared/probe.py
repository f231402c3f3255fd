"""The numbered probes that an enforcer sends through its RP's nginx: what their path says, and where to ask. Pure.

    GET /.pinban/probe/rp1/3f9c01aa/17/1795356738348

nginx/pinban.conf logs what follows `probe/` as the alias of a line of kind `probe`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

#: Probes in a round; one worker of nginx answers them all. After a line that no receiver took, that worker loses its
#: next line too (ECONNREFUSED): the second probe is there to be that line, instead of a client's.
TOGETHER = 2

#: Of a path: the RP's name as the setting enforcer.node, the instance as secrets.token_hex(4) makes it, and two numbers
#: that Lua's doubles hold exactly.
_PATH = re.compile(r"([A-Za-z0-9][A-Za-z0-9_.-]{0,31})/([0-9a-f]{8})/([0-9]{1,12})/([0-9]{1,14})", re.ASCII)

#: Only the loopback: any other host would be told the name of the RP, and could answer in the place of nginx.
_URL = re.compile(r"http://(127(?:\.[0-9]{1,3}){3})(?::([0-9]{1,5}))?((?:/[0-9A-Za-z._-]+)+)", re.ASCII)


class Probe(msgspec.Struct, frozen=True):
    """One numbered request to nginx, as its path and its log line have it."""

    rp: str
    instance: str  #: one run of the enforcer: the numbers of each begin at 1
    number: int  #: from 1; a request that nginx did not answer is repeated with its number
    asked_ms: int  #: when, by Redis TIME; 0 when the enforcer cannot know that

    def __str__(self) -> str:
        return f"{self.rp}/{self.instance}/{self.number}/{self.asked_ms}"


@dataclass(frozen=True, slots=True)
class ProbeUrl:
    """Where an RP's nginx is asked."""

    host: str
    port: int
    path: str


def parse_probe(text: str) -> Probe | None:
    """The inverse of str(probe); None for what no enforcer can have sent."""
    found = _PATH.fullmatch(text)
    return Probe(found[1], found[2], int(found[3]), int(found[4])) if found else None


def parse_probe_url(text: str) -> ProbeUrl | None:
    """Where the URL points to, None for "": no probes. ValueError unless it is on the loopback."""
    if not text:
        return None
    found = _URL.fullmatch(text)
    if found is None or any(int(part) > 255 for part in found[1].split(".")) or not 0 < int(found[2] or 80) < 65_536:
        raise ValueError(f"{text!r} is no page of this host's nginx")
    return ProbeUrl(found[1], int(found[2] or 80), found[3])
