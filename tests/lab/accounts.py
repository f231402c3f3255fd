"""Where every datagram went: what was sent against what the receiver says became of it. Asks Redis, decides nothing."""

from __future__ import annotations

from collections import Counter

from receiver.spool.slots import INTAKE
from tests.lab.redis_server import RedisServer
from tests.lab.views import node

#: What a datagram can become, each exactly one of these.
OUTCOMES = tuple(name for name in INTAKE if name not in ("tail", "batch", "received"))


def counted_ids(server: RedisServer) -> Counter[str]:
    """How often each failure stands in a window of its address; only who was never banned has them all."""
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
    """What reached the socket, by the receiver's own account: read from it, or dropped by the kernel before that."""
    return totals.get("received", 0) + totals.get("drops", 0)


def unbalanced(totals: dict[str, int], sent: int) -> str:
    """What is wrong with the account of so many datagrams sent, or "".

    sent == refused + malformed + ignored + ... + kernel drops, and every failure was counted, expired or dropped.
    """
    outcomes = {name: totals[name] for name in OUTCOMES}
    if sum(outcomes.values()) + totals["drops"] != sent:
        return f"{sent} were sent, of which {totals['drops']} dropped by the kernel and {outcomes} became something"
    ended = totals["counted"] + totals["expired"] + totals["queue_dropped"] + totals["queued"]
    if ended != totals["failures"]:
        return f"of {totals['failures']} failures {ended} are accounted for: {totals}"
    return ""
