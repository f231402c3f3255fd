"""What nginx wrote: the three log formats that pinban reads, each turned into the same few facts. Pure.

Fields are taken by nginx's own escaping rules (ngx_http_log_module.c), from fixed places: no client can write a
quote, and what it can write unquoted, its user name, lies between fields found from both ends of the line.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from receiver.lines.target import target_of

#: `"` ends a quoted field and never stands in one: nginx writes \x22 for it.
_HEAD = re.compile(rb"([^ ]{1,64}) - (.*) \[([^\[\]]{1,64})\] {1,2}", re.DOTALL)

_NUMBERS = re.compile(rb" ([0-9]{3}) ([0-9]{1,15}|-) ?")

_ESCAPED = re.compile(rb"\\x([0-9A-Fa-f]{2})")

#: The quoted fields of a line split at its quotes: combined has 3, pexapp 6 with the upstream's status the fifth.
_COMBINED, _PEXAPP = 7, 13


#: Between the elements of an upstream list: the next server, an internal redirect.
_SEPARATOR = re.compile(r", | : ")

#: What decides in an upstream list, first one first. A 404 only where no other server was asked after it.
_REFUSALS = (re.compile(r"\b403\b"), re.compile(r"\b401\b"), re.compile(r"\b404(?= : |\Z)"))

#: A path with what the appliance writes for all that follows `code=`, `state=`, `token=`, `pin=` or `data=`.
_FILTERED = re.compile(rb"[^?#]*\[FILTERED\]")

#: A path with a line feed, where a rewrite ends what it hands on: its "." does not match one.
_CUT = re.compile(rb"[^?#]*%0a", re.IGNORECASE)

#: nginx's status for a client that did not wait for the answer.
HUNG_UP = 499

#: What a token was requested for; a probe; or a request of which the line does not show that.
Kind = Literal["conference", "registration", "probe", "unclear"]

Pin = Literal["0", "n", "1"]


class Fields(msgspec.Struct, frozen=True, gc=False):
    """What a line says of one request, whatever its format."""

    address: str  #: as nginx wrote it, not yet an address
    post: bool
    kind: Kind | None
    alias: str | None
    status: int  #: of the answer that decides, or nginx's own
    asked: bool  #: a node was asked, as far as the format can tell
    length: int | None  #: of the body of that answer
    pin: Pin | None  #: none sent, "none" sent, a PIN sent; None: the format cannot tell
    id: str = ""  #: nginx's request id, or ""
    credentials: bool | None = None  #: the request had an Authorization header; None: the line does not say
    cross_site: bool = False  #: a page of another site made the browser ask
    plain: bool = False  #: the answer that decides is the last one, and the line says that it was not compressed
    took_ms: int = -1  #: from the request's first byte until the line; -1: the line does not say


class _V1(msgspec.Struct, gc=False):
    """The JSON that nginx/pinban.conf writes; the names are a contract. Older snippets lack those from `c` on."""

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
    c: str = ""
    x: str = ""
    e: str = ""
    d: str = ""
    u: str = ""
    n: str = ""


_KINDS: dict[str, Kind] = {
    "conference": "conference",
    "registration": "registration",
    "probe": "probe",
    "unclear": "unclear",
}

_PINS: dict[str, Pin] = {"0": "0", "n": "n", "1": "1"}

_FLAGS = {"0": False, "1": True}

#: nginx writes 009 for HTTP/0.9, and 000 for a stream that was reset before it was read.
_STATUSES = {f"{status:03}": status for status in range(1_000)}

_decode_v1 = msgspec.json.Decoder(_V1).decode


def parse(line: bytes) -> Fields | None:
    """The facts in a line of any format that pinban reads; None when it is in none of them."""
    if line.startswith(b"{"):
        return _json(line)
    parts = line.split(b'"')
    if len(parts) >= _COMBINED:
        return _text(parts)
    return None


def deciding(statuses: str, lengths: str = "") -> tuple[int | None, int | None, bool]:
    """The status and the length of the answer that decides in an upstream list, and whether it is the last answer.

    A refusal decides wherever it stands: what comes after it is an error page, or another node that was asked the
    same. Without one the last element does.
    """
    if (alone := _STATUSES.get(statuses)) is not None:
        return alone, _number(lengths), True
    last = at = len(_SEPARATOR.findall(statuses))
    for refusal in _REFUSALS:
        if found := refusal.search(statuses):
            at = len(_SEPARATOR.findall(statuses, 0, found.start()))
            break
    sizes = _SEPARATOR.split(lengths)
    return _STATUSES.get(_SEPARATOR.split(statuses)[at]), _number(sizes[at]) if at < len(sizes) else None, at == last


def _json(line: bytes) -> Fields | None:
    encoding = "utf-8"
    try:
        try:
            v1 = _decode_v1(line)
        except UnicodeDecodeError:
            # escape=json passes bytes from 0x80 on as they are, so a client can make alias and target no UTF-8.
            encoding = "latin-1"
            v1 = _decode_v1(line.decode(encoding).encode())
    except (msgspec.DecodeError, RecursionError):
        return None
    if v1.v != 1:
        return None
    answered, length, last = deciding(v1.us, v1.l)
    own = _STATUSES.get(v1.s)
    status = own if answered is None else answered
    if status is None:
        return None
    kind, alias = _KINDS.get(v1.k), v1.a if encoding == "utf-8" else _bytes(v1.a, encoding).decode("utf-8", "replace")
    if kind == "unclear":
        kind, alias = _cleared(_bytes(v1.u, encoding))
    return Fields(
        v1.ip,
        v1.m == "POST",
        kind,
        alias,
        status,
        answered == own or _was_asked(v1.us, answered, own, v1.n),
        length,
        _PINS.get(v1.p),
        v1.id,
        _FLAGS.get(v1.c),
        v1.x == "1",
        last and v1.e == "0",
        _ms(v1.d),
    )


def _was_asked(listed: str, answered: int | None, own: int | None, connected: str) -> bool:
    """Whether a node was asked what the client asked, by the upstream list and its answer that decides.

    nginx sends a request as soon as it is connected; `connected` has how long that took, "-" for never.
    """
    if answered is None:  # "-": it did not answer; if the client stayed, the status is an error page's
        return listed != "" and own == HUNG_UP and (connected == "" or connected.strip("-, :") != "")
    # The only answer is a success, and nginx says otherwise: a node served the error page for a refusal of nginx.
    return not (answered == 200 and own not in (200, HUNG_UP))


def _bytes(text: str, encoding: str) -> bytes:
    """What nginx wrote; what JSON escapes and the encoding lacks becomes "?"."""
    return text.encode(encoding, "replace")


def _cleared(raw: bytes) -> tuple[Kind | None, str]:
    """What a target asks for that nginx could not tell; it is empty when it was too long for the line.

    A node may take a backslash for a slash, and a rewrite may have cut a prefix off.
    """
    if raw == b"":
        return "unclear", ""
    target = target_of(raw, below=True) or target_of(raw.replace(b"\\", b"/"), below=True)
    if target is None and _CUT.match(raw):
        return "unclear", ""
    return (target.kind, target.alias) if target else (None, "")


def _text(parts: list[bytes]) -> Fields | None:
    head = _HEAD.fullmatch(parts[0])
    numbers = _NUMBERS.fullmatch(parts[2])
    if head is None or numbers is None or parts[-1].strip():
        return None
    status, last, was_asked, took_ms = int(numbers[1]), True, True, -1
    if len(parts) == _PEXAPP:
        upstream, seconds = parts[9].decode("latin-1"), parts[11].decode("latin-1")
        answered, _, last = deciding(upstream)
        status = status if answered is None else answered
        was_asked = upstream != "-" or seconds != "-"
        took_ms = _took_ms(seconds)
    method, asked = _request(_ESCAPED.sub(lambda m: bytes((int(m[1], 16),)), parts[1]))
    target = target_of(asked)
    kind: Kind | None = target.kind if target else None
    if target is None and (_FILTERED.match(asked) or _CUT.match(asked)):
        kind = "unclear"
    return Fields(
        head[1].decode("latin-1"),
        method == b"POST",
        kind,
        target.alias if target else None,
        status,
        was_asked,
        _number(numbers[2].decode()) if last else None,
        None,
        took_ms=took_ms,
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


def _took_ms(seconds: str) -> int:
    """Like _ms, and of a list all together."""
    if "," not in seconds and ":" not in seconds:
        return _ms(seconds)
    each = [_ms(one) for one in _SEPARATOR.split(seconds)]
    return sum(ms for ms in each if ms > 0) if max(each) >= 0 else -1


def _ms(seconds: str) -> int:
    """nginx's seconds with three decimals, in ms; -1 for anything else."""
    if seconds[-4:-3] == "." and (digits := seconds[:-4] + seconds[-3:]).isdecimal() and len(digits) <= 15:
        return int(digits)
    return -1


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else None
