"""The time for a line grows with its length only: a client that writes lines must not be able to stop the receiver.

`make bench-classify` measures the longest of these.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import pytest

from receiver.lines.rulebook import Rulebook
from shared.settings.schema import Settings

RULEBOOK = Rulebook(Settings())

HEAD = b"203.0.113.7 - "
TIME = b" [22/Nov/2026:14:12:18 +0000]  "
TAIL = b' 403 56 "-" "-" "" "403" "4.0"'
REQUEST = b'"POST /api/client/v2/conferences/%s/request_token HTTP/1.1"'

V1 = b'{"v":1,"ip":"203.0.113.7","m":"POST","s":"403","p":"1",'

#: What a client or a forger may repeat, by name; each makes a line of about so many bytes.
HOSTILE: dict[str, Callable[[int], bytes]] = {
    "nothing but spaces": lambda n: b" " * n,
    "priorities": lambda n: b"<190>" * (n // 5),
    "months": lambda n: b"Nov 22 14:12:18 " * (n // 16),
    "words in a frame": lambda n: b"<190>Nov 22 14:12:18 " + b"a " * (n // 2),
    "colons in a frame": lambda n: b"<190>Nov 22 14:12:18 " + b"a: " * (n // 3),
    "structured data": lambda n: b"<190>1 - h a p m " + b"[a]" * (n // 3),
    "open structured data": lambda n: b"<190>1 - h a p m " + b"[" * n,
    "escapes in structured data": lambda n: b"<190>1 - h a p m [" + b"\\" * n,
    "quotes": lambda n: HEAD + b'"' * n,
    "brackets in the user name": lambda n: HEAD + b" [" * (n // 2) + TIME + REQUEST + TAIL,
    "times in the user name": lambda n: HEAD + TIME * (n // len(TIME)) + REQUEST + TAIL,
    "dashes before the user name": lambda n: b"- " * (n // 2) + TIME + REQUEST + TAIL,
    "escapes in the request": lambda n: HEAD + b"-" + TIME + REQUEST % (b"\\x41" * (n // 4)) + TAIL,
    "percent signs": lambda n: HEAD + b"-" + TIME + REQUEST % (b"%2F" * (n // 3)) + TAIL,
    "dot segments": lambda n: HEAD + b"-" + TIME + REQUEST % (b"a/../" * (n // 5)) + TAIL,
    "slashes": lambda n: HEAD + b"-" + TIME + REQUEST % (b"/" * n) + TAIL,
    "request_tokens": lambda n: HEAD + b"-" + TIME + REQUEST % (b"/request_token" * (n // 14)) + TAIL,
    "conferences": lambda n: HEAD + b"-" + TIME + REQUEST % (b"/api/client/v2/conferences" * (n // 26)) + TAIL,
    "spaces in the request": lambda n: HEAD + b"-" + TIME + REQUEST % (b" " * n) + TAIL,
    "upstreams": lambda n: HEAD + b"-" + TIME + REQUEST % b"a" + b' 403 5 "-" "-" "" "%s" "4"' % (b"502, " * (n // 5)),
    "seconds": lambda n: (
        HEAD + b"-" + TIME + REQUEST % b"a" + b' 403 5 "-" "-" "" "403" "%s"' % (b"0.001, " * (n // 7))
    ),
    "filtered paths": lambda n: HEAD + b"-" + TIME + b'"POST ' + b"/state=[FILTERED]" * (n // 17) + b'"' + TAIL,
    "redirects": lambda n: V1 + b'"k":"conference","us":"' + b"200 : " * (n // 6) + b'404"}',
    "an odd path": lambda n: V1 + b'"k":"unclear","u":"' + b"/api/client/v2/conferences" * (n // 26) + b'/x"}',
    "backslashes": lambda n: V1 + b'"k":"unclear","u":"/api/client/v2/conferences' + b"\\\\" * (n // 2) + b'"}',
    "an object in an object": lambda n: b'{"a":' * (n // 5),
    "arrays": lambda n: b'{"v":1,"x":' + b"[" * n,
    "a long alias": lambda n: (
        b'{"v":1,"ip":"203.0.113.7","m":"POST","k":"conference","s":"403","a":"' + b"\xff" * n + b'"}'
    ),
}

SHORT = 8_000


def cost(line: bytes) -> float:
    """Seconds of processor time, the median of some tries."""
    tries = []
    for _ in range(9):
        begun = time.process_time()
        RULEBOOK.read(line)
        tries.append(time.process_time() - begun)
    return statistics.median(tries)


@pytest.mark.parametrize("name", HOSTILE)
def test_eight_times_the_line_costs_at_most_some_ten_times(name: str) -> None:
    short, long = cost(HOSTILE[name](SHORT)), cost(HOSTILE[name](8 * SHORT))
    assert long < 20 * max(short, 50e-6), f"{short * 1e6:.0f} us, then {long * 1e6:.0f} us"
