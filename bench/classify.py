"""How many lines are understood in a second of processor time: JSON v1, pexapp, and lines that cannot matter.

`make bench-classify`; exits with 1 below the limits that the project set itself.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from receiver.lines import Rulebook
from shared.settings import Settings
from tests.lab.machine import machine
from tests.unit.receiver.test_linear_time import HOSTILE, cost

ROUNDS = 7
LINES = 100_000

#: The longest datagram of UDP, bytes; and what the worst line of that length may cost, s of processor time.
LONGEST, LONGEST_S = 65_507, 0.05

V1 = (
    b'<190>Nov 22 14:12:18 pinban: {"v":1,"id":"6458bd4b05aa64d6b30c0528319813b1","t":"1795356738.348",'
    b'"ip":"203.0.113.7","m":"POST","k":"conference","a":"meet.alice","s":"403","us":"403","l":"45","p":"1",'
    b'"c":"0","x":"0","e":"0","d":"0.005","u":""}'
)
PEXAPP = (
    b'<190>Nov 22 14:12:18 rp1 nginx: 203.0.113.7 - - [22/Nov/2026:14:12:18 +0000]  "POST /api/client/v2/conferences/'
    b'meet.alice/request_token HTTP/1.1" 403 56 "-" "Mozilla/5.0 (X11; Linux x86_64)" "" "403" "4.016"'
)
ASIDE = (
    b'<190>Nov 22 14:12:18 rp1 nginx: 203.0.113.7 - - [22/Nov/2026:14:12:18 +0000]  "GET /webapp3/static/app.js'
    b'?v=1 HTTP/1.1" 200 51200 "https://rp.example.com/" "Mozilla/5.0 (X11; Linux x86_64)" "" "200" "0.004"'
)


def per_second(work: Callable[[bytes], object], line: bytes) -> list[float]:
    """Lines per second of processor time, one figure a round."""
    figures = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        for _ in range(LINES):
            work(line)
        figures.append(LINES / (time.process_time() - begun))
    return figures


def main() -> int:
    """Measure and print; 1 when a median is below its limit."""
    rulebook = Rulebook(Settings())
    print(machine())
    print(f"method    {ROUNDS} rounds of {LINES:,} times one line each; lines per second of processor time\n")
    good = True
    for name, work, line, limit in (
        ("JSON v1, a failure", rulebook.read, V1, 250_000),
        ("pexapp, a failure", rulebook.read, PEXAPP, 150_000),
        ("a line that cannot matter", rulebook.cannot_matter, ASIDE, 2_000_000),
    ):
        figures = per_second(work, line)
        median = statistics.median(figures)
        good &= median >= limit
        spread = f"min {min(figures):11,.0f}   max {max(figures):11,.0f}"
        print(f"{name:26} median {median:11,.0f}   {spread}   limit {limit:,}")
    name, slowest = max(((name, cost(make(LONGEST))) for name, make in HOSTILE.items()), key=lambda each: each[1])
    good &= slowest < LONGEST_S
    print(
        f"{'a hostile line':26} {slowest * 1_000:.2f} ms for {LONGEST} bytes: {name}   limit {LONGEST_S * 1_000:.0f} ms"
    )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
