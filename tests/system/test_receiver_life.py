"""A receiver starts, reads its settings again, stops: nothing it has read is lost, nobody is banned who must not be."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults.tools import await_said, counted_all, reroute, spoken
from tests.lab.accounts import counted_ids, totals
from tests.lab.daemons import Receiver
from tests.lab.datagrams import RECEIVER, Sender, failure, unread
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.proxy import TcpProxy, Weather
from tests.lab.views import await_ban, counted, ledger, operate
from tests.lab.wires import CORE

#: Where a slow way to Redis begins, on the receiver's host.
BESIDE = "10.77.0.2"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=1) as lab:
        lab.core.namespace.configure(f"addr add {BESIDE}/24 dev inside")
        yield lab


@pytest.fixture
def receiver(lab: Lab) -> Receiver:
    """It runs and has counted nothing yet."""
    assert lab.receiver
    lab.receiver.stop()
    lab.receiver.start()
    lab.receiver.await_ready(lab.receiver.is_ready)
    wait_until(lambda: totals(lab.redis).get("received") == 0, "it counts from zero")
    return lab.receiver


@pytest.fixture
def slowly(lab: Lab, receiver: Receiver) -> Iterator[Receiver]:
    """Its Redis is a fifth of a second away, so that what it has just read is not counted yet."""
    with TcpProxy(lab.core.namespace, (BESIDE, 6379), (CORE, 6379)) as proxy:
        reroute(receiver, f"{CORE}:6379", f"{BESIDE}:6379")
        receiver.await_ready(receiver.is_ready)
        proxy.weather = Weather(delay_s=0.1)
        yield receiver
        receiver.stop()
        proxy.clear()
        reroute(receiver, f"{BESIDE}:6379", f"{CORE}:6379")


def test_what_was_read_before_a_sigterm_is_counted(lab: Lab, slowly: Receiver) -> None:
    """In batches of 512, of which each worker has several to go."""
    ids = [f"term-{n}" for n in range(6_000)]
    with Sender(lab.rps[0].host.namespace) as sender:
        sender.pour((failure(f"203.0.{n // 750}.{n // 3 % 250 + 1}", id_) for n, id_ in enumerate(ids)), per_ms=10)
    wait_until(lambda: unread(lab.core.namespace) == 0, "all is read")
    assert slowly.stop() == 0
    assert Counter(id_ for id_ in counted_ids(lab.redis).elements() if id_ in set(ids)) == Counter(ids)


def test_an_allowed_address_is_not_banned_by_a_receiver_that_has_just_started(lab: Lab, receiver: Receiver) -> None:
    """It reads the allow-list a moment after the first lines, which wait in its socket before any worker is there."""
    assert operate(lab, "allow", "192.0.2.70").returncode == 0
    receiver.stop()
    receiver.start()
    wait_until(partial(listens, lab), "its socket is open")
    with Sender(lab.rps[0].host.namespace) as sender:
        for address in ("192.0.2.70", "192.0.2.71"):
            for n in range(5):
                sender.send(failure(address, f"first-{address}-{n}"))
    await_ban(lab, "192.0.2.71")
    wait_until(lambda: totals(lab.redis).get("wrong_pin", 0) + totals(lab.redis).get("ignored", 0) == 10, "all is read")
    wait_until(lambda: totals(lab.redis)["queued"] == 0, "all is counted")
    assert "192.0.2.70" not in ledger(lab.redis)


def listens(lab: Lab) -> bool:
    table = lab.core.namespace.call(Path("/proc/thread-self/net/udp").read_text)
    return f":{RECEIVER[1]:04X} " in table


@pytest.mark.row(12)
def test_a_reload_of_bad_settings_says_so_and_changes_nothing(lab: Lab, receiver: Receiver) -> None:
    """They have a limit of two, and a word that no setting has."""
    file, since = Path(receiver.argv[-1]), spoken(receiver)
    good = file.read_text()
    assert "maxretry = 5" in good
    try:
        file.write_text(good.replace("maxretry = 5", "maxretry = 2\nmaxretries = 2"))
        receiver.signal(signal.SIGHUP)
        await_said(receiver, "rules.pin.maxretries", since)
        await_said(receiver, "the settings stay as they were", since)
    finally:
        file.write_text(good)
    wait_until(lambda: len(receiver.workers()) == 2 and receiver.is_ready(), "it is whole")
    with Sender(lab.rps[0].host.namespace) as sender:
        for n in range(4):
            sender.send(failure("192.0.2.72", f"bad-{n}"))
        counted_all(lab.redis, 4)
        assert counted(lab.redis, "192.0.2.72") == 4
        assert "192.0.2.72" not in ledger(lab.redis)
        sender.send(failure("192.0.2.72", "bad-4"))
    await_ban(lab, "192.0.2.72")
    assert "settings reloaded" not in receiver.log.read_text()[since:]
