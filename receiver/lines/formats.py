"""What nginx wrote: the three log formats that pinban reads, each turned into the same few facts. Pure.

Fields are taken by nginx's own escaping rules (ngx_http_log_module.c), from fixed places: no client can write a
quote, and what it can write unquoted, its user name, lies between fields found from both ends of the line.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from receiver.lines import syslog
from receiver.lines.target import target_of

#: `"` ends a quoted field and never stands in one: nginx writes \x22 for it.
_HEAD = re.compile(rb"([^ ]{1,64}) - (.*) \[([^\[\]]{1,64})\] {1,2}", re.DOTALL)

_NUMBERS = re.compile(rb" ([0-9]{3}) ([0-9]{1,15}|-) ?")

_ESCAPED = re.compile(rb"\\x([0-9A-Fa-f]{2})")

#: The quoted fields of a line split at its quotes: combined has 3, pexapp 6 with the upstream's status the fifth.
_COMBINED, _PEXAPP = 7, 13


#: nginx's status for a client that did not wait for the answer.
HUNG_UP = 499

Kind = Literal["conference", "registration", "probe"]

Pin = Literal["0", "n", "1"]


class Fields(msgspec.Struct, frozen=True):
    """What a line says of one request, whatever its format."""

    address: str  #: as nginx wrote it, not yet an address
    post: bool
    kind: Kind | None  #: what a token was requested for; or "probe"
    alias: str | None
    status: int  #: the last upstream's, or nginx's own
    asked: bool  #: a node was asked, as far as the format can tell
    length: int | None  #: of the body
    pin: Pin | None  #: none sent, "none" sent, a PIN sent; None: the format cannot tell
    id: str  #: nginx's request id, or ""


class _V1(msgspec.Struct):
    """The JSON that nginx/pinban.conf writes; the names are a contract."""

    v: int
    ip: str
    m: str
    k: str
    s: str
    id: str = ""
    a: str = ""
    us: str = ""
    l: str = ""  # noqa: E741  the contract's name
    p: str = ""


_KINDS: dict[str, Kind] = {"conference": "conference", "registration": "registration", "probe": "probe"}

_PINS: dict[str, Pin] = {"0": "0", "n": "n", "1": "1"}

_decode_v1 = msgspec.json.Decoder(_V1).decode


def parse(line: bytes) -> Fields | None:
    """The facts in a line of any format that pinban reads; None when it is in none of them."""
    if line.startswith(b"{"):
        return _json(line)
    parts = line.split(b'"')
    if len(parts) >= _COMBINED:
        return _text(parts)
    return None


def last_of(listed: str) -> str:
    """The last element of an upstream list: ", " after the next server, " : " after an internal redirect."""
    return re.split(r", | : ", listed)[-1].strip() if "," in listed or ":" in listed else listed


def _json(line: bytes) -> Fields | None:
    try:
        try:
            v1 = _decode_v1(line)
        except UnicodeDecodeError:
            # escape=json passes bytes from 0x80 on as they are, so a client can make the alias no UTF-8.
            v1 = _decode_v1(line.decode("utf-8", "replace").encode())
    except (msgspec.DecodeError, RecursionError):
        return None
    if v1.v != 1:
        return None
    status = _status(v1.s, v1.us)
    if status is None:
        return None
    return Fields(
        v1.ip,
        v1.m == "POST",
        _KINDS.get(v1.k),
        v1.a,
        status,
        v1.us != "",
        _number(last_of(v1.l)),
        _PINS.get(v1.p),
        v1.id,
    )


def _text(parts: list[bytes]) -> Fields | None:
    head = _HEAD.fullmatch(parts[0])
    numbers = _NUMBERS.fullmatch(parts[2])
    if head is None or numbers is None or parts[-1].strip():
        return None
    upstream = parts[9].decode("latin-1") if len(parts) == _PEXAPP else ""
    status = _status(numbers[1].decode(), upstream)
    if status is None:
        return None
    method, asked = _request(_ESCAPED.sub(lambda m: bytes((int(m[1], 16),)), parts[1]))
    target = target_of(asked)
    return Fields(
        head[1].decode("latin-1"),
        method == b"POST",
        target.kind if target else None,
        target.alias if target else None,
        status,
        True,
        _number(numbers[2].decode()),
        None,
        "",
    )


def _request(line: bytes) -> tuple[bytes, bytes]:
    """The method and the target of a request line.

    nginx takes any number of spaces before the target, and before and after the version; HTTP/0.9 has no version
    (ngx_http_parse_request_line).
    """
    method, _, rest = line.partition(b" ")
    rest = rest.strip(b" ")
    target, _, version = rest.rpartition(b" ")
    return method, target.rstrip(b" ") if version.startswith(b"HTTP/") else rest


def _status(own: str, upstream: str) -> int | None:
    """The last upstream's status if there was an upstream, else nginx's own: the node decides."""
    last = _number(last_of(upstream))
    return last if last is not None else _number(own)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None


def parse_message(datagram: bytes) -> Fields | None:
    """The facts in a syslog message or in a line of a file; None when it is in no format that pinban reads."""
    return parse(syslog.message(datagram))


def v1_fields() -> tuple[str, ...]:
    """The fields of the JSON that a snippet of this version writes, without the time, which is not read here."""
    return _V1.__struct_fields__
