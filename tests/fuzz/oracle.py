"""A second reader of datagrams: slow and simple, written from nginx's source and the contract of the JSON line.
It imports nothing of the receiver, so a mistake is missed only if both make the same one.

It accepts more where that gives more addresses (it tries every way to read the frame), because its question is: may
this address be counted for this line at all?
"""

from __future__ import annotations

import ipaddress
import json
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

#: Body sizes of a 403, as the defaults have them.
WRONG_PIN_BYTES = {45, 46, 56, 57}
PROMPT_BYTES = {69, 73, 77, 80, 84, 88, 110, 121, 137, 141, 148, 152}


@dataclass(frozen=True, slots=True)
class Opinion:
    """One way to understand a datagram."""

    network: str  #: the address that would be counted
    meaning: str  #: a class of the design's table


def opinions(datagram: bytes) -> Iterator[Opinion]:
    """Every reading of the datagram that names an address in the place where nginx writes it."""
    for line in _messages(datagram.rstrip(b"\r\n\0 ")):
        found = _v1(line) if line.startswith(b"{") else _text(line)
        if found is not None:
            yield found


def network_of(address: str) -> str | None:
    """An IPv4 address, mapped ones too, as itself; an IPv6 address as its /64; None for anything else."""
    try:
        known = ipaddress.ip_address(address)
    except ValueError:
        return None
    if "%" in address:
        return None
    if isinstance(known, ipaddress.IPv4Address):
        return str(known)
    if known.ipv4_mapped is not None:
        return str(known.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(known) >> 64 << 64, 64)))


def _messages(line: bytes) -> Iterator[bytes]:
    """The bare line, then what is left after each frame that it may have."""
    yield line
    unprioritised = line
    if line.startswith(b"<") and line[1 : line.find(b">")].isdigit():
        unprioritised = line[line.find(b">") + 1 :]
        parts = unprioritised.split(b" ", 6)
        if len(parts) == 7 and parts[0] == b"1":
            yield from _behind_structured_data(parts[6])
    if unprioritised[3:4] == b" " and unprioritised[15:16] == b" ":  # Nov  2 14:12:18
        words = unprioritised[16:]
        for at, byte in enumerate(words[:400]):
            if byte == ord(":") and words[:at].count(b" ") <= 1:
                yield words[at + 1 :]
                yield words[at + 1 :].removeprefix(b" ")


def _behind_structured_data(rest: bytes) -> Iterator[bytes]:
    if rest.startswith(b"-"):
        yield rest[1:].removeprefix(b" ").removeprefix(b"\xef\xbb\xbf")
        return
    escaped = False
    for at, byte in enumerate(rest):
        if byte == ord("]") and not escaped:
            yield rest[at + 1 :].removeprefix(b" ").removeprefix(b"\xef\xbb\xbf")
        escaped = byte == ord("\\") and not escaped


def _v1(line: bytes) -> Opinion | None:
    try:
        said = json.loads(line.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(said, dict) or said.get("v") != 1 or not isinstance(said.get("ip"), str):
        return None
    network = network_of(said["ip"])
    if network is None:
        return None
    own, upstream, pin = (str(said.get(key, "")) for key in ("s", "us", "p"))
    length = _number(_last(str(said.get("l", ""))))
    status = _status(_last(upstream), own)
    meaning = "other"
    if said.get("m") == "POST" and (upstream or status == 499):
        meaning = _meaning(str(said.get("k")), status, length, pin)
    return Opinion(network, meaning)


def _text(line: bytes) -> Opinion | None:
    parts = line.split(b'"')
    address, dash, _ = parts[0].partition(b" - ")
    network = network_of(address.decode("latin-1"))
    if network is None or not dash or len(parts) < 7:
        return None
    status, _, length = parts[2].strip().partition(b" ")
    last = _last(parts[9].decode("latin-1")) if len(parts) == 13 else ""
    method, _, rest = _unescaped(parts[1]).partition(b" ")
    kind = _kind(rest) if method == b"POST" else ""
    code = _status(last, status.decode("latin-1"))
    return Opinion(network, _meaning(kind, code, _number(length.strip().decode("latin-1")), None) if kind else "other")


def _meaning(kind: str, status: int | None, length: int | None, pin: str | None) -> str:
    if kind == "registration":
        return "registration" if status in {401, 403} else "other"
    if kind != "conference":
        return "other"
    unknown_pin = pin not in {"0", "n", "1"}
    if status == 403:
        guessed = pin == "1" or length in WRONG_PIN_BYTES or (unknown_pin and length not in PROMPT_BYTES)
        return "wrong_pin" if guessed else "pin_prompt"
    if status == 499 and pin == "1":
        return "wrong_pin"
    if status == 404:
        return "unknown_alias"
    return "joined" if status == 200 and (unknown_pin or pin == "1") else "other"


def _kind(rest: bytes) -> str:
    """The kind of token that the target, with what follows it, asks for; "" without one."""
    target = rest.strip(b" ")
    before, _, version = target.rpartition(b" ")
    if version.startswith(b"HTTP/"):
        target = before.rstrip(b" ")
    if not target.startswith(b"/"):
        _, authority, path = target.partition(b"://")
        target = b"/" + path.partition(b"/")[2] if authority else target
    asked = unquote_to_bytes(target.split(b"?")[0].split(b"#")[0]).decode("latin-1")
    steps = str(posixpath.normpath("/" + asked)).strip("/").split("/")
    folded = [step.lower() for step in steps]
    if len(steps) < 6 or folded[:2] != ["api", "client"] or folded[-1] != "request_token":
        return ""
    if not (folded[2][:1] == "v" and folded[2][1:].isdigit()) or folded[3] not in {"conferences", "registrations"}:
        return ""
    return folded[3].removesuffix("s")


def _unescaped(field: bytes) -> bytes:
    first, *others = field.split(b"\\x")
    out = first
    for each in others:
        try:
            out += bytes((int(each[:2].decode("ascii"), 16),)) + each[2:]
        except ValueError:
            out += b"\\x" + each
    return out


def _last(listed: str) -> str:
    """A single element as it is; of several, the last one without the spaces around it."""
    last = listed.rsplit(", ", maxsplit=1)[-1].rsplit(" : ", maxsplit=1)[-1]
    return last.strip() if "," in listed or ":" in listed else listed


def _status(last: str, own: str) -> int | None:
    upstream = _number(last)
    return _number(own) if upstream is None else upstream


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
