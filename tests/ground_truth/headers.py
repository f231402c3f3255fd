"""Header fields as a guesser may write them. Pure; randomness is an argument."""

from __future__ import annotations

from base64 import b64encode
from random import Random

Header = tuple[bytes, bytes]

_WRONG = (
    b"9999",
    b"000000",
    b"1234#",
    b"'",
    b'"1234"',
    b"None",
    b"null",
    b"0",
    b"\xff\xfe",
    b"9" * 7000,
    b"1, 2",
    b"-",
)

_NO_PIN = (b"", b" ", b"\t", b" \t ", b"none", b"none ", b"\tnone")

_USERS = (
    b"foo:",
    b":",
    b"foo",
    b'- [x] "a"\n9.9.9.9:x',
    b'a [22/Nov/2026:14:12:18 +0000]  "POST /x HTTP/1.1" 200 1 "-" "-" "" "200" "0.1":x',
    b"\xff" * 100 + b":x",
    b"u" * 2000 + b":x",
    b'x - y [z] " ":',
)

_NOISES = (
    (b"Referer", b"https://rp/webapp3/"),
    (b"Referer", b'" 200 1 "-" "-" "" "200" "0.1"'),
    (b"Referer", b"-"),
    (b"User-Agent", b'x" "y" "200'),
    (b"User-Agent", b""),
    (b"User-Agent", b"\xff\xfe\x80"),
    (b"X-Forwarded-For", b"9.9.9.9"),
    (b"X-Forwarded-For", b'9.9.9.9" "200" "0.1'),
    (b"X-Real-IP", b"9.9.9.9"),
    (b"Forwarded", b"for=9.9.9.9"),
    (b"X-Request-ID", b"00000000000000000000000000000000"),
    (b"X_Request_ID", b"forged"),
    (b"Request-ID", b"forged"),
    (b"p_in", b"1234"),
    (b"pin2", b"1234"),
    (b"Cookie", b"a=b; pin=1234"),
    (b"Range", b"bytes=0-0"),
    (b"If-Modified-Since", b"Sun, 22 Nov 2026 14:12:18 GMT"),
    (b"Accept-Encoding", b"gzip"),
    (b"Accept-Encoding", b"gzip, deflate, br"),
    (b"Sec-Fetch-Site", b"cross-site"),
    (b"Sec-Fetch-Site", b"same-origin"),
    (b"Origin", b"https://elsewhere.example"),
    (b"Content-Type", b"application/json"),
    (b"X-HTTP-Method-Override", b"GET"),
    (b"token", b"x" * 300),
)


def headers(random: Random, pins: dict[str, bytes]) -> list[Header]:
    """The headers of a request, the PIN's among others; `pins` are the right ones of all aliases."""
    found = _pins(random, [*pins.values()])
    for chance in (0.25, 0.25, 0.1):
        if random.random() < chance:
            found.insert(random.randrange(len(found) + 1), random.choice(_NOISES))
    if random.random() < 0.12:
        scheme = random.choice((b"Basic ", b"basic ", b"Basic  ", b"x-pexip-basic "))
        found.append((b"Authorization", scheme + b64encode(random.choice(_USERS))))
    if random.random() < 0.03:
        size = random.choice((1_000, 4_000, 8_170))
        name = random.choice((b"Referer", b"User-Agent", b"X-Noise"))
        noise = random.choice((b"\xff", b'"', b"\\", b"a"))
        found += [
            (name, noise * size),
            (random.choice((b"Referer", b"User-Agent")), noise * random.choice((10, 8_170))),
        ]
    return found


def _pins(random: Random, right: list[bytes]) -> list[Header]:
    """None, one, or several that contradict each other."""
    number = random.choices((0, 1, 2, 3), (25, 60, 12, 3))[0]
    values: list[bytes] = []
    for _ in range(number):
        known = random.choice(right) if random.random() < 0.4 else right[0]
        sets = ((known,), _WRONG, _NO_PIN)
        values.append(random.choice(random.choices(sets, (30, 50, 20))[0]))
    names = (b"pin", b"pin", b"pin", b"Pin", b"PIN")
    return [(random.choice(names), value) for value in values]
