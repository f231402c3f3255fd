"""Workers die and settings are read again, under load: every datagram counts, once."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import Future
from functools import partial

import pytest

from tests.lab.accounts import counted_ids, unbalanced
from tests.lab.daemons import Receiver
from tests.lab.datagrams import Sender, failure
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.redis_server import RedisServer
from tests.lab.views import node

#: Sent at least; it goes on until every deed is done, and each address has room for a thousand failures.
DATAGRAMS, MOST, PER_MS, ADDRESSES = 20_000, 300_000, 5, 400

DEEDS = ("kill", "reload", "kill", "kill", "reload", "kill", "kill")


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Nobody is banned, so that the windows keep all that was counted."""
    with Lab(rps=1, enforcers=False, settings={"rules": {"pin": {"maxretry": 1000}}}) as lab:
        yield lab


def numbered(until: Future[None]) -> Iterator[bytes]:
    for n in range(MOST):
        if n >= DATAGRAMS and until.done():
            return
        yield failure(f"203.0.{n % ADDRESSES // 200}.{n % 200 + 1}", f"{n:032x}")


def settled(server: RedisServer, sent: int) -> bool:
    """The receiver's hash is of a moment when nothing waited any more."""
    totals = node(server, "rx1")
    return int(totals.get("received", 0)) >= sent and totals["queued"] == "0"


def replaced(receiver: Receiver, before: Collection[int]) -> bool:
    """Two workers are there, and none of these."""
    now = set(receiver.workers())
    return len(now) == 2 and not now & set(before)


def torment(receiver: Receiver) -> None:
    """Kills and reloads, each as soon as the last is mended."""
    for deed in DEEDS:
        time.sleep(0.2)
        workers = receiver.workers()
        victims = workers if deed == "reload" else workers[:1]
        if deed == "reload":
            receiver.signal(signal.SIGHUP)
        else:
            os.kill(victims[0], signal.SIGKILL)
        wait_until(partial(replaced, receiver, victims), f"the receiver is whole again after a {deed}")


@pytest.mark.row(11)
@pytest.mark.row(12)
def test_killed_workers_and_reloads_under_5000_datagrams_a_second_lose_none(lab: Lab) -> None:
    assert lab.receiver
    tormenting = lab.core.namespace.start(partial(torment, lab.receiver))
    with Sender(lab.rps[0].host.namespace) as sender:
        sent = sender.pour(numbered(tormenting), PER_MS)
    tormenting.result()
    wait_until(lambda: settled(lab.redis, sent), "all is counted")
    ids = counted_ids(lab.redis)
    assert ids == Counter(f"{n:032x}" for n in range(sent))
    totals = {name: int(value) for name, value in node(lab.redis, "rx1").items() if value.isdigit()}
    assert totals["drops"] == 0
    assert totals["received"] == sent
    assert unbalanced(totals, sent) == ""
    assert totals["wrong_pin"] == sent == totals["counted"]
    assert totals["expired"] == totals["queue_dropped"] == totals["abandoned"] == 0
    with lab.redis.client() as client:
        counts = [int(client.get(key) or 0) for key in client.scan_iter(match="pinban:count:*", count=1_000)]
    assert sum(counts) == sent
