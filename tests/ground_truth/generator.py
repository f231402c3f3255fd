"""Sessions of hostile clients, the same for the same seed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

from tests.ground_truth.fronts import BALANCER, Front
from tests.ground_truth.headers import Header, headers
from tests.ground_truth.requests import MARKER, Leaving, Request, Session
from tests.ground_truth.targets import PINS, target

#: Clients: all of 127.0.0.0/8 is on the loopback interface; the site adds the others to it.
SOURCES6 = tuple(f"2001:db8:66:{n:x}::{n:x}" for n in range(1, 9))

_PINS = {alias: pin.encode() for alias, pin in PINS.items()}

_METHODS = (
    *(b"GET", b"HEAD", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"PROPFIND", b"TRACE", b"CONNECT", b"BREW"),
    *(b"POST_", b"POSTX", b"P-OST", b"XPOST", b"post", b"Post", b"M" * 1000),
)

_BODIES = (
    b"",
    b"{}",
    b'{"display_name": "x"}',
    b'{"pin": "1234"}',
    b"POST /api/client/v2/ HTTP/1.1\r\n\r\n",
    b"x" * 500,
)


def sessions(seed: int, requests: int, fronts: Sequence[Front], *, leaving: float = 0.04) -> Iterator[Session]:
    """So many requests in sessions of 1 to 30; `leaving` is the share of them that does not wait for the answer."""
    random = Random(seed)
    marker = 0
    while marker < requests:
        front, client = random.choice(fronts), _client(random)
        source = BALANCER if front.balanced and random.random() < 0.5 else client
        last = _forwarded(random, front, source, client)
        http2 = random.random() < 0.25
        number = min(random.choice((1, 5, 12, 30)), requests - marker)
        writer = _http2 if http2 else _http1
        written = tuple(writer(random, marker + n, _leaving(random, leaving), last) for n in range(number))
        marker += number
        at_once = random.random() < (0.7 if http2 else 0.2)
        left: Leaving = next((request.leaving for request in written if request.leaving), "")
        if at_once and left and not http2:  # a client that hangs up gets no further answer on the connection
            written = tuple(replace(request, leaving=left) for request in written)
        yield Session(front, source, client, http2, at_once, written)


def _forwarded(random: Random, front: Front, source: str, client: str) -> list[Header]:
    """What the balancer adds to a request, as its last header; or what a client adds to look like one."""
    if source == BALANCER:
        return [(b"X-Forwarded-For", client.encode())]
    if front.balanced and random.random() < 0.5:
        return [(b"X-Forwarded-For", random.choice((b"9.9.9.9", BALANCER.encode(), b"127.1.1.1, 9.9.9.9")))]
    return []


def _client(random: Random) -> str:
    if random.random() < 0.3:
        return random.choice(SOURCES6)
    return f"127.{random.randrange(1, 200)}.{random.randrange(256)}.{random.randrange(1, 255)}"


def _leaving(random: Random, share: float) -> Leaving:
    return random.choice(("close", "reset")) if random.random() < share else ""


def _method(random: Random) -> bytes:
    return b"POST" if random.random() < 0.88 else random.choice(_METHODS)


def _http1(random: Random, marker: int, leaving: Leaving, last: list[Header]) -> Request:
    method, body = _method(random), random.choice(_BODIES) if random.random() < 0.3 else b""
    version = b"HTTP/1.1" if random.random() < 0.85 else random.choice((b"HTTP/1.0", b"HTTP/1.01", b"HTTP/1.9", b""))
    if random.random() < 0.01:
        version = random.choice((b"HTTP/2.0", b"HTTP/1.1x", b"HTTP/0.9", b"http/1.1", b"HTTP/"))
    end = b"\n" if random.random() < 0.03 else b"\r\n"
    lines = [_request_line(random, method, version), MARKER + b": %d" % marker]
    fields: list[Header] = headers(random, _PINS)
    if random.random() < 0.99:
        fields.insert(0, (b"Host", random.choice((b"rp", b"RP:80", b"[::1]", b"127.0.0.1"))))
    fields += _framing(random, method, body)
    lines += [_field(random, name, value) for name, value in fields]
    lines += [b"%b: %b" % each for each in last]
    if random.random() < 0.02:
        lines.insert(
            random.randrange(2, len(lines) + 1), random.choice((b" folded: 1", b"no colon", b"pin : 1234", b": x"))
        )
    before = b"\r\n" if random.random() < 0.02 else b""
    raw = (
        before + end.join(lines) + 2 * end + (_chunked(body) if (b"Transfer-Encoding", b"chunked") in fields else body)
    )
    if leaving and random.random() < 0.2:
        raw = raw[: random.randrange(len(raw))]
    return Request(marker, raw, leaving=leaving, bodiless=method == b"HEAD")


def _request_line(random: Random, method: bytes, version: bytes) -> bytes:
    gaps = [b" " * random.randrange(1, 4) if random.random() < 0.03 else b" " for _ in range(2)]
    after = b" " * random.randrange(1, 3) if random.random() < 0.02 and version else b""
    asked = target(random)
    return method + gaps[0] + asked + (gaps[1] + version + after if version else b"")


def _framing(random: Random, method: bytes, body: bytes) -> list[Header]:
    found: list[Header] = []
    if body and random.random() < 0.3:
        found.append((b"Transfer-Encoding", b"chunked"))
    elif body or method == b"POST":
        found.append((b"Content-Length", b"%d" % len(body)))
    odd = random.random()
    if odd < 0.02:
        found.append((b"Connection", random.choice((b"close", b"keep-alive", b"upgrade, pin", b"pin"))))
    elif odd < 0.03:
        found.append((b"Expect", b"100-continue"))
    elif odd < 0.035:
        found += [(b"Upgrade", b"h2c"), (b"Connection", b"Upgrade")]
    return found


def _field(random: Random, name: bytes, value: bytes) -> bytes:
    gap = random.choice((b":", b":  ", b":\t")) if random.random() < 0.03 else b": "
    return name + gap + value + (b"  " if random.random() < 0.02 else b"")


def _chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"


def _http2(random: Random, marker: int, leaving: Leaving, last: list[Header]) -> Request:
    body = random.choice(_BODIES) if random.random() < 0.3 else b""
    fields = [(b":method", _method(random)), (b":scheme", b"http"), (b":authority", b"rp"), (b":path", target(random))]
    fields.append((MARKER.lower(), b"%d" % marker))
    fields += [(name.lower(), value) for name, value in headers(random, _PINS)]
    if random.random() < 0.01:
        fields.append(
            random.choice(((b"Pin", b"1234"), (b"pin", b"a\0b"), (b"pin", b"a\nb"), (b"connection", b"close")))
        )
    fields += [(name.lower(), value) for name, value in last]
    unfinished = random.random() < 0.05
    return Request(marker, b"", tuple(fields), body, "reset" if unfinished else leaving, unfinished)
