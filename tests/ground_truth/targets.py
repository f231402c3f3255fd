"""Request targets as a guesser may spell them, and some that only look alike. Pure; randomness is an argument."""

from __future__ import annotations

from random import Random

#: The rooms of the nodes, with the PIN of each. Some names are hard to write, to log and to read.
ROOMS = {
    "meet.alice": "1234",
    "bär": "2345",
    "0": "3456",
    "a/b": "4567",
    'x"},{"k\\': "5678",
    "two\nlines": "6789",
    "long" * 32 + "er": "7890",  # 130 bytes
    "é" * 70: "8901",  # cut within a character, at 128 bytes
    "request_token": "9012",
    "pin=1": "0123",
}

#: Rooms where the right PIN is refused as well: single sign-on, and nobody else may join.
SSO = {"meet.sso": "1234"}
FULL = {"meet.full": "1234"}

PINS = ROOMS | SSO | FULL

_STRANGE = (
    b"nobody",
    b"none",
    b" ",
    b" meet.alice",
    b"meet.alice\t",
    b"meet.alice\n",
    b"\r\n\r\n",
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80",
    b"\xc3",
    b"caf\xc3\xa9\xe2",
    "İSTANBUL ẞ".encode(),
    "\U0001f600".encode() * 40,
    b"%",
    b"%2e%2e",
    b"a?b#c",
    b"sip://meet.alice",
    b"http://x/api/client/v2/conferences/y",
    b"a\\x22b",
    b'","p":"0","a":"',
    b"a" * 127,
    b"a" * 128,
    b"a" * 129,
    b"b" * 4000,
    b"\x7f\x01\x1f\x08\x0c",
    b"...",
    b"a/request_token",
    b"request_token/b",
    b"../conferences/x",
    b"a;b=c",
    b"code=x&y",
    b"[FILTERED]",
)

_OTHER = (
    b"/",
    b"*",
    b"/webapp3/",
    b"/request_token",
    b"/api/client/v2/status",
    b"/api/client/v2/conferences/request_token",
    b"/api/client/v2/conferences//request_token",
    b"/api/client/v2/conferences/meet.alice/request_tokens",
    b"/api/client/v2/conferences/meet.alice/request_token/x",
    b"/api/client/v2/conferences/meet.alice/refresh_token",
    b"/api/client/v2/conferences/meet.alice/participants",
    b"/api/client/v/conferences/meet.alice/request_token",
    b"/api/client/v2a/conferences/meet.alice/request_token",
    b"/api/client/v2/conferences/x/../../../request_token",
    b"/api/client/v2/conferences/x/../../../../foo/request_token",
    b"/api/client/v2/conferences/../../conferences/x/request_token",
    b"/api/client/v2/conferences/%2e%2e/request_token",
    b"/api/client/v2/conferences/meet.alice/request_token%0a",
    b"/api/client/v2/conferences/meet.alice/request_token%0a/x",
    b"/api/client/v2/conferences/meet.alice/request_token%20",
    b"/api/client/v2/conferences/meet.alice/request_token%00",
    b"/api/client/v2/conferences/meet.alice/request_token;x",
    b"/api/client/v2/conferences/meet.alice%2frequest_token%3f",
    b"/a%2570i/client/v2/conferences/meet.alice/request_token",
    b"/x/api/client/v2/conferences/meet.alice/request_token",
    b"/../api/client/v2/conferences/meet.alice/request_token",
    b"/api/client/v66/conferences/meet.alice/request_token",  # refused by nginx itself
    b"/?/api/client/v2/conferences/meet.alice/request_token",
    b"/x?u=/api/client/v2/conferences/meet.alice/request_token",
)

_NOISE = (
    b"/",
    b"/.",
    b"/%2e",
    b"/%2E/",
    b"/x/..",
    b"/x/%2e.",
    b"/a%2fb/../..",
    b"/x://y/../..",
    b"/%ff/..",
    b"/.%2E/..",
    b"/state=/..",
    b"/x%26pin=y/%2e.",
    b"/token=a&data=b/..",
)

_ENDS = (
    b"/",
    b"//",
    b"/.",
    b"/x/..",
    b"%2f",
    b"/%2e",
    b"?",
    b"?x=1",
    b"?/../..",
    b"?a=b?c#d",
    b"#x",
    b"?%00",
    b"?pin=1",
    b"?a&code=b",
)

_ORIGINS = (b"http://rp", b"HTTPS://user:p@[::1]:443", b"http://127.0.0.1:80", b"x://h", b"http://RP.example.com:8080")

_SPLINTERS = (
    b"%",
    b"/",
    b".",
    b"..",
    b"?",
    b"#",
    b"\\",
    b'"',
    b";",
    b":",
    b"@",
    b"\x80",
    b"%00",
    b"%0a",
    b"%2f",
    b"%2e",
)

_BREAKERS = (b" ", b"\n", b"\r", b"\t", b"\0", b"\x7f")

#: Bytes with a meaning in a target, or that nginx refuses there.
_MUST_QUOTE = frozenset(range(0x21)) | frozenset(b"?#%\x7f")


def target(random: Random) -> bytes:
    """Mostly a spelling of a request_token, sometimes something else, sometimes broken."""
    if random.random() < 0.12:
        return random.choice(_OTHER)
    spelled = _spelled(random, 0.0 if random.random() < 0.3 else random.choice((0.02, 0.1, 0.5)))
    if random.random() < 0.08:
        spelled = random.choice(_ORIGINS) + spelled
    for _ in range(random.choice((1, 1, 2)) if random.random() < 0.1 else 0):
        at = random.randrange(len(spelled) + 1)
        splinter = random.choice(_BREAKERS if random.random() < 0.1 else _SPLINTERS)
        spelled = spelled[:at] + splinter + spelled[at + random.randrange(2) :]
    return spelled


def _spelled(random: Random, oddity: float) -> bytes:
    """`oddity` is the chance of something unusual at each place where that is possible."""
    kind = b"registrations" if random.random() < 0.12 else b"conferences"
    version = random.choice((b"v1", b"v12", b"v02")) if random.random() < oddity else b"v2"
    name = random.choice((*PINS, *SSO, *FULL)).encode() if random.random() < 0.4 else b"meet.alice"
    alias = random.choice(_STRANGE) if random.random() < 0.25 else name
    out = b""
    for word in (b"api", b"client", version, kind, *alias.split(b"/"), b"request_token"):
        while random.random() < oddity:
            out += random.choice(_NOISE)
        out += b"%2F" if out and random.random() < oddity / 2 else b"/"
        out += b"".join(_letter(random, letter, oddity) for letter in word)
    return out + (random.choice(_ENDS) if random.random() < 2 * oddity else b"")


def _letter(random: Random, letter: int, oddity: float) -> bytes:
    chance = oddity / 4
    if letter in _MUST_QUOTE or random.random() < (0.5 if letter >= 0x80 else chance):
        return (b"%%%02x" if random.random() < 0.5 else b"%%%02X") % letter
    plain = bytes((letter,))
    return plain.swapcase() if random.random() < chance else plain
