"""What became of every datagram: what was sent, compared with what the receiver reports. Reads Redis only."""

from __future__ import annotations

from collections import Counter

from receiver.spool.slots import INTAKE
from tests.lab.redis_server import RedisServer
from tests.lab.views import node

#: The outcomes of a datagram; each datagram has exactly one.
OUTCOMES = tuple(name for name in INTAKE if name not in ("batch", "received"))


def counted_ids(server: RedisServer) -> Counter[str]:
    """How often each failure is in the window of its address; only addresses never banned still have all."""
    with server.client() as client:
        keys = list(client.scan_iter(match="pinban:window:*", count=1_000))
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.zrange(key, 0, -1)
        return Counter(member.decode().split(" ")[0] for members in pipeline.execute() for member in members)


def totals(server: RedisServer, name: str = "rx1") -> dict[str, int]:
    """The numbers of a receiver's hash."""
    return {key: int(value) for key, value in node(server, name).items() if value.isdigit()}


def arrived(totals: dict[str, int]) -> int:
    """How many datagrams reached the socket by the receiver's report: read by it, or dropped by the kernel."""
    return totals.get("received", 0) + totals.get("drops", 0)


def unbalanced(totals: dict[str, int], sent: int) -> str:
    """What is wrong with the report about this many datagrams sent, or "".

    sent == refused + malformed + ignored + ... + kernel drops, and every failure was counted, expired or dropped.
    """
    outcomes = {name: totals[name] for name in OUTCOMES}
    if sum(outcomes.values()) + totals["drops"] != sent:
        return f"{sent} were sent, the kernel dropped {totals['drops']} and {outcomes} have an outcome"
    ended = totals["counted"] + totals["expired"] + totals["queue_dropped"] + totals["queued"]
    if ended != totals["failures"]:
        return f"of {totals['failures']} failures {ended} are accounted for: {totals}"
    return ""
