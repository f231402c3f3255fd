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
OTHERWISE_BYTES = {59, 60, 70, 71}
LONGEST_REFUSAL = 512


@dataclass(frozen=True, slots=True)
class Opinion:
    """One way to understand a datagram."""

    network: str  #: the address that would be counted
    meaning: str  #: a class of the design's table
    counted: bool = True  #: whether a rule may count it


@dataclass(frozen=True, slots=True)
class Answer:
    """One element of an upstream list."""

    status: int | None
    length: int | None
    left: bool  #: another server was asked after it
    last: bool


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
    own, upstream, pin, kind, credentials = (str(said.get(key, "")) for key in ("s", "us", "p", "k", "c"))
    answer = _deciding(_answers(upstream, str(said.get("l", ""))))
    if answer.status is None and own != "499":
        return Opinion(network, "other")
    if answer.status == 200 and own not in {"200", "499"}:  # of an error page
        return Opinion(network, "other")
    if said.get("m") != "POST" or not upstream:
        return Opinion(network, "other")
    if answer.status is None and said.get("n") and not set(str(said["n"])) - set("-, :"):  # no node was reached
        return Opinion(network, "other")
    if kind == "unclear" and (raw := str(said.get("u", "")).encode("utf-8", "replace")):
        read = _kind(raw, below=True) or _kind(raw.replace(b"\\", b"/"), below=True)
        kind = "unclear" if not read and _has(raw, b"%0a") else read
    if kind == "registration" and credentials == "0":
        return Opinion(network, "other")
    honest = said.get("e") == "0" and answer.last
    meaning = _meaning(kind, answer.status or 499, answer.length, pin, honest=honest)
    by_a_page = meaning == "unknown_alias" and said.get("x") == "1"
    return Opinion(network, meaning, not by_a_page and (meaning != "registration" or credentials == "1"))


def _text(line: bytes) -> Opinion | None:
    parts = line.split(b'"')
    address, dash, _ = parts[0].partition(b" - ")
    network = network_of(address.decode("latin-1"))
    if network is None or not dash or len(parts) < 7:
        return None
    own, _, size = parts[2].strip().partition(b" ")
    upstream, seconds = (parts[9].decode("latin-1"), parts[11]) if len(parts) == 13 else ("", b"")
    answer = _deciding(_answers(upstream, ""))
    status = _number(own.decode("latin-1")) if answer.status is None else answer.status
    method, _, rest = _unescaped(parts[1]).partition(b" ")
    if method != b"POST" or (upstream == "-" and seconds == b"-"):
        return Opinion(network, "other")
    target = _target(rest)
    kind = _kind(target)
    if not kind and (b"[FILTERED]" in target.split(b"?")[0].split(b"#")[0] or _has(target, b"%0a")):
        kind = "unclear"
    meaning = _meaning(
        kind, status, _number(size.strip().decode("latin-1")) if answer.last else None, None, honest=False
    )
    return Opinion(network, meaning, meaning != "registration")


def _has(target: bytes, word: bytes) -> bool:
    """Whether a word, in lower case, is in the target's path."""
    return word in target.split(b"?")[0].split(b"#")[0].lower()


def _answers(statuses: str, lengths: str) -> list[Answer]:
    sizes = lengths.replace(" : ", ", ").split(", ")
    answers: list[Answer] = []
    runs = statuses.split(" : ")
    for run, elements in enumerate(each.split(", ") for each in runs):
        for at, status in enumerate(elements):
            size = sizes[len(answers)] if len(answers) < len(sizes) else ""
            left = at + 1 < len(elements)
            answers.append(Answer(_number(status), _number(size), left, not left and run + 1 == len(runs)))
    return answers


def _deciding(answers: list[Answer]) -> Answer:
    """The first refusal, or the last answer; a room that the next server knew is no refusal."""
    for status in (403, 401, 404):
        for answer in answers:
            if answer.status == status and not (status == 404 and answer.left):
                return answer
    return answers[-1]


def _meaning(kind: str, status: int | None, length: int | None, pin: str | None, *, honest: bool) -> str:
    """`honest`: the size is that of the body before any compression."""
    if kind == "registration":
        return "registration" if status in {401, 403} else "other"
    if kind not in {"conference", "unclear"}:
        return "other"
    if status == 499 and pin == "1":
        return "wrong_pin"
    if kind == "unclear":
        return "wrong_pin" if status == 403 and (pin == "1" or length in WRONG_PIN_BYTES) else "other"
    unknown_pin = pin not in {"0", "n", "1"}
    if status == 403:
        return _refusal(length, shown=pin == "1", unknown=unknown_pin, honest=honest)
    if status == 404:
        return "unknown_alias"
    return "joined" if status == 200 and (unknown_pin or pin == "1") else "other"


def _refusal(length: int | None, *, shown: bool, unknown: bool, honest: bool) -> str:
    if length in WRONG_PIN_BYTES:
        return "wrong_pin"
    if not shown and (not unknown or length in PROMPT_BYTES):
        return "pin_prompt"
    otherwise = length is not None and (length > LONGEST_REFUSAL or (honest and length in OTHERWISE_BYTES))
    return "refused_otherwise" if otherwise else "wrong_pin"


def _target(rest: bytes) -> bytes:
    """What is left of a request line without its method, its version and the spaces around both."""
    target = rest.strip(b" ")
    before, _, version = target.rpartition(b" ")
    return before.rstrip(b" ") if version.startswith(b"HTTP/") else target


def _kind(target: bytes, *, below: bool = False) -> str:
    """The kind of token that the target asks for, `below` any other path; "" without one."""
    if not target.startswith(b"/"):
        _, authority, path = target.partition(b"://")
        target = b"/" + path.partition(b"/")[2] if authority else target
    asked = unquote_to_bytes(target.split(b"?")[0].split(b"#")[0]).decode("latin-1")
    steps = str(posixpath.normpath("/" + asked)).strip("/").split("/")
    folded = [step.lower() for step in steps]
    for begin in range(len(steps) - 5 if below else 1):
        api, client, version, kind = (*folded[begin : begin + 4], "", "", "", "")[:4]
        numbered = version[:1] == "v" and version[1:].isdigit()
        if (api, client) == ("api", "client") and numbered and kind in {"conferences", "registrations"}:
            asked_for = len(steps) - begin >= 6 and folded[-1] == "request_token"
            return kind.removesuffix("s") if asked_for else ""
    return ""


def _unescaped(field: bytes) -> bytes:
    first, *others = field.split(b"\\x")
    out = first
    for each in others:
        try:
            out += bytes((int(each[:2].decode("ascii"), 16),)) + each[2:]
        except ValueError:
            out += b"\\x" + each
    return out


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
