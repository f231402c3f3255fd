"""What a conference node answers to a request. Pure: no socket, no clock, no counts."""

from __future__ import annotations

import gzip
import json
import posixpath
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import sha512
from urllib.parse import unquote_to_bytes


@dataclass(frozen=True, slots=True)
class Room:
    """A conference, and what keeps people with the right PIN out of it."""

    pin: bytes  #: that everybody needs
    sso: bool = False  #: a right PIN is sent on to an identity provider
    full: bool = False  #: nobody else may join


Rooms = Mapping[str, Room]  #: by alias in lower case

#: Sizes that deployments show: 73 bytes for the question, 45 for the refusal.
PROMPT = b'{"status": "success", "result": {"pin": "required", "guest_pin": "none"}}'
WRONG = b'{"status": "failed", "result": "Invalid PIN"}'
FULL = b'{"status": "failed", "result": "Participant limit reached"}'
UNKNOWN = b'{"status": "failed", "result": "Neither conference nor gateway found"}'
BAD_LOGIN = b'{"status": "failed", "result": "Invalid credentials"}'
NOT_FOUND = b'{"status": "failed", "result": "Not found"}'
TOKEN = json.dumps(
    {
        "status": "success",
        "result": {
            "token": "SE9TVA" * 59,
            "expires": "120",
            "participant_uuid": "2c34f35f-1060-438c-9e87-6c2dffbc9980",
            "display_name": "Alice",
            "role": "HOST",
            "current_service_type": "conference",
            "version": {"version_id": "36", "pseudo_version": "79019.0.0"},
            "stun": [{"url": "stun:stun.example.com:19302"}],
            "analytics_enabled": False,
            "chat_enabled": True,
            "conference_name": "meet.alice",
            "direct_media": False,
            "fecc_enabled": False,
            "guests_can_present": True,
            "rtmp_enabled": True,
            "service_type": "conference",
            "vp9_enabled": True,
        },
    }
).encode()

#: Where the answer to a right PIN sends a browser. A SAML request is compressed, so it does not get smaller again.
REDIRECT = json.dumps(
    {
        "status": "success",
        "result": {
            "redirect_url": "https://idp.example.com/saml2?SAMLRequest="
            + b64encode(b"".join(sha512(bytes((n,))).digest() for n in range(12))).decode(),
            "redirect_idp": {"name": "Example", "uuid": "6c2dffbc-3f35-438c-9e87-2c34f35f9980"},
            "version": {"version_id": "36", "pseudo_version": "79019.0.0"},
        },
    }
).encode()

#: /pexip stands for whatever prefix a proxy puts before the path.
_TOKEN_PATH = re.compile(
    rb"(?:/pexip)?/api/client/v[0-9]+/(conferences|registrations)/(.+)/request_token/?", re.DOTALL | re.IGNORECASE
)


#: RFC 9112, 3.2.2: a server must take the absolute form too.
_ABSOLUTE = re.compile(rb"[a-z][a-z0-9+.-]*://[^/?#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Request:
    method: bytes
    target: bytes
    http11: bool
    keep_alive: bool
    pins: tuple[bytes, ...]  #: every pin header, in order
    login: bool  #: an Authorization header came along
    sites: tuple[bytes, ...]  #: every Sec-Fetch-Site: from where a page asks, as a browser says
    origins: tuple[bytes, ...]  #: every Origin: whose page asks, as older browsers say
    takes_gzip: bool
    body_length: int  #: bytes
    id: bytes = b""  #: X-Request-ID, where nginx is told to set it
    marker: bytes = b""  #: X-Ground, by which a test knows its requests again

    @property
    def pin(self) -> bytes:
        """The PIN that counts: the last one of several, as in Twisted; b"" without any."""
        return self.pins[-1] if self.pins else b""

    @classmethod
    def parse(cls, head: bytes) -> Request:
        """Read the head of a request without its empty line; ValueError for anything else.

        A body must have a Content-Length, as after an nginx that buffers.
        """
        first, *lines = head.split(b"\r\n")
        method, target, version = first.split(b" ")
        headers: dict[bytes, bytes] = {}
        pins: list[bytes] = []
        sites: list[bytes] = []
        origins: list[bytes] = []
        for line in lines:
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
            if name.lower() == b"pin":
                pins.append(value.strip())
            elif name.lower() == b"sec-fetch-site":
                sites.append(value.strip(b" "))  # no browser writes a tab
            if name.lower() == b"origin":
                origins.append(value.strip(b" "))
        http11 = version == b"HTTP/1.1"
        wish = headers.get(b"connection", b"").lower()
        return cls(
            method,
            target,
            http11,
            wish != b"close" if http11 else wish == b"keep-alive",
            tuple(pins),
            b"authorization" in headers,
            tuple(sites),
            tuple(origins),
            b"gzip" in headers.get(b"accept-encoding", b"").lower(),
            int(headers.get(b"content-length", b"0")),
            headers.get(b"x-request-id", b""),
            headers.get(b"x-ground", b""),
        )


@dataclass(frozen=True, slots=True)
class Reply:
    outcome: str  #: under which it is counted; "" for not at all
    status: int
    body: bytes
    delayed: bool = False
    compressed: bool = False

    def in_gzip(self) -> Reply:
        """The same, smaller on its way."""
        return replace(self, body=gzip.compress(self.body, mtime=0), compressed=True)

    def without_spaces(self) -> Reply:
        """The same for whoever reads JSON, some bytes shorter."""
        if not self.body.startswith(b"{"):
            return self
        return replace(self, body=json.dumps(json.loads(self.body), separators=(",", ":")).encode())


def answer(request: Request, rooms: Rooms) -> Reply:
    """What the node answers; it accepts every path that the most tolerant server would accept."""
    kind, alias = route(request.target)
    if kind and request.method == b"POST":
        if kind == "registrations":
            return Reply("registration", 403 if request.login else 401, BAD_LOGIN, delayed=True)
        return _token(rooms.get(alias.decode(errors="replace").lower()), request.pin)
    if request.method == b"GET" and request.target.startswith(b"/webapp3/"):
        return Reply("other", 200, b"<!doctype html><title>Meet</title>")
    return Reply("other", 404, NOT_FOUND)


def _token(room: Room | None, pin: bytes) -> Reply:
    if room is None:
        return Reply("unknown", 404, UNKNOWN, delayed=True)
    if pin in (b"", b"none"):
        return Reply("prompt", 403, PROMPT, delayed=True)
    if pin != room.pin:
        return Reply("wrong", 403, WRONG, delayed=True)
    if room.sso:
        return Reply("redirected", 403, REDIRECT, delayed=True)
    if room.full:
        return Reply("full", 403, FULL, delayed=True)
    return Reply("joined", 200, TOKEN, delayed=True)


@lru_cache(maxsize=4096)
def route(target: bytes) -> tuple[str, bytes]:
    """The kind of token that is asked for, and the decoded alias; two empty strings for anything else."""
    path = _ABSOLUTE.sub(b"", target, count=1) if not target.startswith(b"/") else target
    path = unquote_to_bytes(path.partition(b"?")[0].partition(b"#")[0])
    found = _TOKEN_PATH.fullmatch(b"/" + posixpath.normpath(path).lstrip(b"/"))
    return (found[1].decode().lower(), found[2]) if found else ("", b"")
