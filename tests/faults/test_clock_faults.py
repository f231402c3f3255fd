"""Clocks that are wrong, and Redis' clock set under way: no ban outlives its end, and it shows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

from shared.ledger.changes import Ledger
from tests.faults.tools import agree, await_said, ban, ledger_writer, logged, said, spoken
from tests.lab.datagrams import Sender, failure
from tests.lab.kernel import members, timeouts
from tests.lab.lab import Lab, ReverseProxy
from tests.lab.process import Process, wait_until
from tests.lab.views import await_ban, ledger, node, number, operate
from tests.lab.wrong_clock import WrongClock

HOUR_S = 3_600

#: How exact the length of a ban must be, s.
EXACT_S = 2.0

#: When something ends, by the monotonic clock: between two instants, as a busy host may pause between two lines.
End = tuple[float, float]


@pytest.fixture(scope="module")
def clocks() -> dict[str, WrongClock]:
    """Of each process of the lab; filled by it."""
    return {}


@pytest.fixture(scope="module")
def lab(clocks: dict[str, WrongClock]) -> Iterator[Lab]:
    """rp1 is an hour late, rp2 two hours early, the receiver a day late; Redis has the right time, to begin with."""
    lab = Lab(rps=2)
    assert lab.receiver
    processes: dict[str, Process] = {"redis": lab.redis.process, "receiver": lab.receiver}
    processes |= {rp.host.name: rp.enforcer for rp in lab.rps if rp.enforcer}
    wrong = {"redis": 0, "receiver": -24 * HOUR_S, "rp1": -HOUR_S, "rp2": 2 * HOUR_S}
    for name, process in processes.items():
        clocks[name] = WrongClock(process, wrong[name], lab.directory / "clocks")
    with lab:
        yield lab


def left(lab: Lab, address: str) -> float:
    """Seconds of a ban that the ledger has left; below zero without one."""
    with lab.redis.client() as client:
        seconds, microseconds = client.time()
        until_ms = float(client.zscore("{pinban}:bans", address) or 0)
    return until_ms / 1_000 - int(seconds) - int(microseconds) / 1_000_000


def banned(writer: Ledger, address: str, seconds: int, more_s: int = 0) -> End:
    """Ban an address; when that ends, unless Redis' clock is set forward by `more_s` of its time."""
    began = time.monotonic()
    ban(writer, address, (seconds + more_s) * 1_000)
    return began + seconds, time.monotonic() + seconds


def lasts_as_long(lab: Lab, address: str, ends: End) -> bool:
    """Whether ledger and kernels end a ban then."""
    began = time.monotonic()
    found = [left(lab, address), *(timeouts(rp.host.namespace).get(address, -9) for rp in lab.rps)]
    soonest, latest = ends[0] - time.monotonic() - EXACT_S, ends[1] - began + EXACT_S
    return all(soonest <= seconds <= latest for seconds in found)


def set_clock(clocks: dict[str, WrongClock], lab: Lab, seconds: int) -> None:
    """Set Redis' clock; returns when it goes by it."""
    with lab.redis.client() as client:
        before = client.time()[0]
        clocks["redis"].set(seconds)
        wait_until(lambda: abs(client.time()[0] - before) > HOUR_S / 2, "Redis' clock is set")


def restart(rp: ReverseProxy) -> None:
    assert rp.enforcer
    since = spoken(rp.enforcer)
    rp.enforcer.stop()
    rp.enforcer.start()
    await_said(rp.enforcer, "follows the ledger", since)


def fails_five_times(lab: Lab, address: str, name: str) -> None:
    with Sender(lab.rps[0].host.namespace) as sender:
        sender.pour((failure(address, f"{name}-{n}") for n in range(5)), per_ms=1)


@pytest.mark.row(23)
def test_bans_are_as_long_as_they_should_be_where_every_clock_is_wrong(lab: Lab) -> None:
    with ledger_writer(lab.redis) as writer:
        ends = banned(writer, "192.0.2.23", 120)
    await_ban(lab, "192.0.2.23")
    assert lasts_as_long(lab, "192.0.2.23", ends), "by the event"
    restart(lab.rps[0])
    restart(lab.rps[1])
    assert lasts_as_long(lab, "192.0.2.23", ends), "by the snapshot"
    fails_five_times(lab, "192.0.2.230", "wrong-clocks")
    await_ban(lab, "192.0.2.230")
    assert 200 < min(timeouts(rp.host.namespace)["192.0.2.230"] for rp in lab.rps) <= 300
    skews = {name: number(lab.redis, name, "clock_skew_ms") / 1_000 for name in ("rx1", "rp1", "rp2")}
    assert skews == pytest.approx({"rx1": -24 * HOUR_S, "rp1": -HOUR_S, "rp2": 2 * HOUR_S}, abs=60)
    wait_until(lambda: "rp1: its clock is -360" in operate(lab, "status").stdout, "status tells")
    assert node(lab.redis, "rp1")["clock_steps"] == "0"


@pytest.mark.row(23)
def test_when_redis_clock_is_set_back_no_ban_outlives_its_end_and_its_address_can_be_banned_again(
    lab: Lab, clocks: dict[str, WrongClock]
) -> None:
    logs = logged(lab)
    with ledger_writer(lab.redis) as writer:
        ends = banned(writer, "192.0.2.1", 90)
        _, soon = banned(writer, "192.0.2.2", 8)
    fails_five_times(lab, "192.0.2.3", "before-it-was-set")
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        await_ban(lab, address)
    set_clock(clocks, lab, -HOUR_S)
    restart(lab.rps[0])  # a snapshot at the worst moment
    wait_until(partial(lasts_as_long, lab, "192.0.2.1", ends), "ledger and kernels end it when they should")
    await_said(lab.rps[1].enforcer, "Redis' clock was set by -3600", logs["rp2"])
    wait_until(lambda: number(lab.redis, "rp2", "clock_steps") == 1, "it is counted")
    over = max(soon + EXACT_S + 1 - time.monotonic(), 0)  # at the first look, if we come late
    wait_until(lambda: "192.0.2.2" not in members(lab.rps[1].host.namespace), "a ban that is over is over", over)
    wait_until(lambda: "192.0.2.2" not in ledger(lab.redis), "in the ledger too")
    assert operate(lab, "unban", "192.0.2.3").returncode == 0
    for address in ("192.0.2.2", "192.0.2.3"):
        fails_five_times(lab, address, "after-it-was-set")
        await_ban(lab, address)
    agree(lab)
    assert not any(said(rp.enforcer, "no heartbeat", logs[rp.host.name]) for rp in lab.rps if rp.enforcer)


@pytest.mark.row(23)
def test_when_redis_clock_is_set_forward_bans_end_early_everywhere_and_it_shows(
    lab: Lab, clocks: dict[str, WrongClock]
) -> None:
    logs = logged(lab)
    assert lab.receiver
    since = spoken(lab.receiver)
    with ledger_writer(lab.redis) as writer:
        ban(writer, "192.0.2.4", 90_000)
        ends = banned(writer, "192.0.2.5", 90, more_s=HOUR_S)
    await_ban(lab, "192.0.2.5")
    set_clock(clocks, lab, 0)
    for rp in lab.rps:
        await_said(rp.enforcer, "Redis' clock was set by +3600", logs[rp.host.name])
    await_said(lab.receiver, "Redis' clock was set by +3600", since)
    agree(lab)
    assert "192.0.2.4" not in ledger(lab.redis)
    assert lasts_as_long(lab, "192.0.2.5", ends), "bounded by the step"
    fails_five_times(lab, "192.0.2.4", "early")
    await_ban(lab, "192.0.2.4")
    assert "times that Redis' clock was set" in operate(lab, "status").stdout
