"""Workers die and settings are read again, under load: every datagram counts, once."""

from __future__ import annotations

import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Collection, Iterator
from functools import partial

import pytest

from tests.lab.accounts import counted_ids, unbalanced
from tests.lab.daemons import Receiver
from tests.lab.datagrams import Sender, failure
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.redis_server import RedisServer
from tests.lab.views import node

DATAGRAMS, PER_MS, ADDRESSES = 20_000, 5, 400


@pytest.fixture
def lab() -> Iterator[Lab]:
    """Nobody is banned, so that the windows keep all that was counted."""
    with Lab(rps=1, enforcers=False, settings={"rules": {"pin": {"maxretry": 1000}}}) as lab:
        yield lab


def numbered(count: int) -> Iterator[bytes]:
    return (failure(f"203.0.{n % ADDRESSES // 200}.{n % 200 + 1}", f"{n:032x}") for n in range(count))


def settled(server: RedisServer) -> bool:
    """The receiver's hash is of a moment when nothing waited any more."""
    totals = node(server, "rx1")
    return int(totals.get("received", 0)) >= DATAGRAMS and totals["queued"] == "0"


def replaced(receiver: Receiver, before: Collection[int]) -> bool:
    """Two workers are there, and none of these."""
    now = set(receiver.workers())
    return len(now) == 2 and not now & set(before)


def torment(receiver: Receiver, ended: threading.Event) -> Counter[str]:
    """Kills and reloads by turns, each as soon as the last is mended; how often of each."""
    done: Counter[str] = Counter()
    for deed in itertools.chain(("kill", "reload", "kill", "kill", "reload"), itertools.repeat("kill")):
        if ended.wait(0.2):
            break
        workers = receiver.workers()
        victims = workers if deed == "reload" else workers[:1]
        if deed == "reload":
            receiver.signal(signal.SIGHUP)
        else:
            os.kill(victims[0], signal.SIGKILL)
        wait_until(partial(replaced, receiver, victims), f"the receiver is whole again after a {deed}")
        done[deed] += 1
    return done


@pytest.mark.row(11)
@pytest.mark.row(12)
def test_killed_workers_and_reloads_under_5000_datagrams_a_second_lose_none(lab: Lab) -> None:
    assert lab.receiver
    ended = threading.Event()
    receiver = lab.receiver
    tormenting = lab.core.namespace.start(partial(torment, receiver, ended))
    try:
        with Sender(lab.rps[0].host.namespace) as sender:
            assert sender.pour(numbered(DATAGRAMS), PER_MS) == DATAGRAMS
    finally:
        ended.set()
    done = tormenting.result()
    assert done["kill"] >= 4
    assert done["reload"] == 2
    wait_until(lambda: settled(lab.redis), "all is counted", 30)
    ids = counted_ids(lab.redis)
    assert ids == Counter(f"{n:032x}" for n in range(DATAGRAMS))
    totals = {name: int(value) for name, value in node(lab.redis, "rx1").items() if value.isdigit()}
    assert totals["drops"] == 0
    assert totals["received"] == DATAGRAMS
    assert unbalanced(totals, DATAGRAMS) == ""
    assert totals["wrong_pin"] == DATAGRAMS == totals["counted"]
    assert totals["expired"] == totals["queue_dropped"] == totals["abandoned"] == 0
    with lab.redis.client() as client:
        counts = [int(client.get(key) or 0) for key in client.scan_iter(match="pinban:count:*", count=1_000)]
    assert sum(counts) == DATAGRAMS
