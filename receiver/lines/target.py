"""Reads the target of a request as nginx and the node read it, so that no spelling hides it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

_QUOTED = re.compile(rb"%([0-9A-Fa-f]{2})")

_ABSOLUTE = re.compile(rb"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")

_REQUEST_TOKEN = re.compile(rb"/api/client/v[0-9]+/(conference|registration)s/(.+)/request_token/?", re.DOTALL | re.I)

#: The same below any other path, from the first place where it may begin: so the time grows with the length alone.
_BELOW = re.compile(rb"(?>.*?/api/client/v[0-9]+/(conference|registration)s/)(.+)/request_token/?", re.DOTALL | re.I)

#: Longest alias that is kept, bytes; nginx/pinban.conf sends no more.
LONGEST_ALIAS = 128


@dataclass(frozen=True, slots=True)
class Target:
    """What a token is requested for."""

    kind: Literal["conference", "registration"]
    alias: str  #: decoded, of LONGEST_ALIAS bytes at most


def target_of(raw: bytes, *, below: bool = False) -> Target | None:
    """What a request target asks a token for, or None when it asks for something else; `below` allows any prefix.

    Absolute-form is reduced to its path (RFC 9112, 3.2.2), query and fragment are cut, percent-encoding is decoded
    once, then `//` and dot segments are merged, also those from decoding (ngx_http_parse_complex_uri).
    """
    path = raw if raw.startswith(b"/") else _ABSOLUTE.sub(b"", raw, count=1) or b"/"
    path = path.partition(b"?")[0].partition(b"#")[0]
    if b"%" in path:
        path = _QUOTED.sub(lambda m: bytes((int(m[1], 16),)), path)
    if b"//" in path or b"/." in path:
        path = _merged(path)
    matched = (_BELOW if below else _REQUEST_TOKEN).fullmatch(path)
    if matched is None:
        return None
    kind: Literal["conference", "registration"] = "conference" if matched[1][:1] in b"Cc" else "registration"
    return Target(kind, matched[2][:LONGEST_ALIAS].decode("utf-8", "replace"))


def _merged(path: bytes) -> bytes:
    kept: list[bytes] = []
    segments = path.split(b"/")
    for segment in segments:
        if segment == b"..":
            del kept[-1:]
        elif segment not in (b"", b"."):
            kept.append(segment)
    end = b"/" if kept and segments[-1] in (b"", b".", b"..") else b""
    return b"/" + b"/".join(kept) + end
