"""Every process is killed or stopped at the worst moment: arbiter, worker, enforcer, nginx, the whole host."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import redis

from shared.addresses import Network
from tests.faults.tools import (
    NOTICED_S,
    agree,
    await_said,
    ban,
    continue_all,
    counted_all,
    ids,
    ledger_writer,
    logged,
    numbered,
    said,
    spoken,
    state,
    stop_all,
    tree,
)
from tests.lab import wires
from tests.lab.accounts import arrived, counted_ids, totals, unbalanced
from tests.lab.daemons import RECEIVER, Receiver, merge
from tests.lab.datagrams import Sender, failure, unread
from tests.lab.kernel import members, timeouts, traces
from tests.lab.lab import Lab
from tests.lab.netns import ip
from tests.lab.process import lasts, wait_until
from tests.lab.views import await_ban, guesses, ledger, new_source, node, operate
from tests.redis.conftest import plain


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=2) as lab:
        yield lab


@pytest.fixture
def receiver(lab: Lab) -> Receiver:
    assert lab.receiver
    return lab.receiver


@pytest.fixture
def before(lab: Lab, receiver: Receiver) -> int:
    """Failures that the receiver has counted so far, all its parts being well."""
    wait_until(lambda: len(receiver.workers()) == 2 and receiver.is_ready(), "the receiver is whole")
    wait_until(lambda: totals(lab.redis).get("queued") == 0, "nothing waits")
    return totals(lab.redis)["counted"]


def all_once(lab: Lab, count: int, net: str) -> bool:
    found = counted_ids(lab.redis)
    return {id_: found[id_] for id_ in ids(count, net)} == dict.fromkeys(ids(count, net), 1)


@pytest.mark.row(11)
@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL], ids=lambda number: number.name)
def test_a_worker_that_crashes_is_replaced_and_what_it_had_read_counts_once(
    lab: Lab, receiver: Receiver, before: int, number: signal.Signals
) -> None:
    net, count = f"203.{50 + number}", 2_000
    victim, since = receiver.workers()[0], spoken(receiver)
    with Sender(lab.rps[0].host.namespace) as sender:
        pouring = lab.core.namespace.start(lambda: sender.pour(numbered(count, net), per_ms=4))
        wait_until(lambda: totals(lab.redis)["counted"] > before, "the failures flow")
        os.kill(victim, number)
        assert pouring.result() == count
    wait_until(lambda: len(set(receiver.workers()) - {victim}) == 2, "it is replaced")
    counted_all(lab.redis, before + count)
    assert all_once(lab, count, net)
    await_said(receiver, f"was sent {number.name}", since)


@pytest.mark.row(11)
def test_a_stopped_worker_and_a_stopped_arbiter_hold_nobody_up(lab: Lab, receiver: Receiver, before: int) -> None:
    """The worker keeps what it had read and counts it when it goes on: its slot is its own as long as it lives."""
    victim, other = receiver.workers()
    with Sender(lab.rps[0].host.namespace) as sender:
        stop_all([other])
        lab.redis.freeze()
        sender.pour(numbered(400, "203.60"), per_ms=2)
        wait_until(lambda: unread(lab.core.namespace) == 0, "the victim has read them")
        stop_all([victim, receiver.pid])
        lab.redis.thaw()
        continue_all([other])
        try:
            sender.pour(numbered(1_600, "203.62"), per_ms=2)
            sender.pour((failure("192.0.2.60", f"stopped-{n}") for n in range(5)), per_ms=1)
            await_ban(lab, "192.0.2.60")
            wait_until(lambda: totals(lab.redis)["counted"] == before + 1_605, "the other counts what it has read")
            await_reports(lab, 3)
            assert totals(lab.redis)["queued"] == 400, "it has looked for slots without an owner"
        finally:
            continue_all([victim, receiver.pid])
    counted_all(lab.redis, before + 2_005)
    assert all_once(lab, 400, "203.60")
    assert all_once(lab, 1_600, "203.62")
    assert victim in receiver.workers()


def await_reports(lab: Lab, times: int) -> None:
    """Return when the receiver has written its hash so many times more."""
    for _ in range(times):
        before = node(lab.redis, "rx1")["seen"]
        wait_until(lambda: node(lab.redis, "rx1")["seen"] != before, "it reports")  # noqa: B023


@pytest.mark.row(11)
def test_a_killed_arbiter_takes_its_workers_along_when_they_have_counted_and_makes_way(
    lab: Lab, receiver: Receiver, before: int
) -> None:
    workers = receiver.workers()
    lab.redis.freeze()
    with Sender(lab.rps[0].host.namespace) as sender:
        sender.pour(numbered(400, "203.61"), per_ms=4)
    wait_until(lambda: unread(lab.core.namespace) == 0, "they have read all and counted nothing")
    receiver.kill()
    lab.redis.thaw()
    wait_until(lambda: all(state(pid) in ("", "Z") for pid in workers), "the workers end by themselves")
    assert all_once(lab, 400, "203.61")
    receiver.start()
    receiver.await_ready(receiver.is_ready)
    with Sender(lab.rps[0].host.namespace) as sender:
        sender.pour((failure("192.0.2.61", f"again-{n}") for n in range(5)), per_ms=1)
    await_ban(lab, "192.0.2.61")


@pytest.mark.row(13)
def test_a_flood_that_nobody_reads_is_lost_to_the_last_datagram_but_never_uncounted() -> None:
    """Workers stopped, buffer of 256 KiB, 20,000 datagrams: the kernel drops most, and what it drops is known."""
    settings = {"receiver": {"receive_buffer": 262_144}, "rules": {"pin": {"maxretry": 1000}}}
    with Lab(rps=1, enforcers=False, settings=settings) as lab:
        assert lab.receiver
        workers, since = lab.receiver.workers(), spoken(lab.receiver)
        stop_all(workers)
        with Sender(lab.rps[0].host.namespace) as sender:
            sent = sender.pour(numbered(20_000, "203.13"), per_ms=20)
        continue_all(workers)
        wait_until(lambda: arrived(totals(lab.redis)) == sent, "every datagram is accounted for")
        wait_until(lambda: totals(lab.redis)["queued"] == 0, "none waits")
        now = totals(lab.redis)
        assert unbalanced(now, sent) == ""
        assert now["drops"] > 15_000
        assert now["counted"] == sent - now["drops"]
        await_said(lab.receiver, f"the kernel dropped {now['drops']} datagrams", since)
        assert "because the sockets' buffers were full" in operate(lab, "status").stdout


@pytest.mark.row(20)
def test_a_stopped_enforcer_drops_on_and_catches_up(lab: Lab) -> None:
    rp = lab.rps[0]
    assert rp.enforcer
    with ledger_writer(lab.redis) as writer:
        ban(writer, "192.0.2.20")
        agree(lab)
        stop_all([rp.enforcer.pid])
        stopped = time.monotonic()
        try:
            for n in range(100):
                ban(writer, f"198.51.120.{n + 1}")
            writer.unban(Network("198.51.120.1"), "test", "test")
            ban(writer, "192.0.2.200", 60_000)
            ends = time.monotonic() + 60
            wait_until(lambda: "198.51.120.100" in members(lab.rps[1].host.namespace), "the other is not held up")
            assert "192.0.2.20" in members(rp.host.namespace)
            lasts(NOTICED_S, stopped)
        finally:
            continue_all([rp.enforcer.pid])
    agree(lab)
    assert rp.enforcer.running
    due_s = ends - time.monotonic()
    left_s = timeouts(rp.host.namespace)["192.0.2.200"]
    assert left_s <= due_s + 1, "a ban that was late to arrive does not outlive its end"


def children(pid: int) -> list[int]:
    """The children of all threads of a process, those that end meanwhile apart."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, file.read_text().split())
    return found


@pytest.mark.row(20)
def test_a_killed_enforcer_is_adopted_by_the_next_with_no_rule_or_set_made_anew(lab: Lab) -> None:
    rp = lab.rps[0]
    assert rp.enforcer
    agree(lab)
    before, since = traces(rp.host.namespace), spoken(rp.enforcer)
    rp.enforcer.kill()
    assert [line for line in traces(rp.host.namespace) if "-A" in line] == [line for line in before if "-A" in line]
    rp.enforcer.start()
    await_said(rp.enforcer, "everything is in place already", since)
    await_said(rp.enforcer, "follows the ledger", since)
    agree(lab)


@pytest.mark.row(21)
def test_after_a_reboot_sets_rules_and_bans_come_back_from_nothing_in_this_order(lab: Lab) -> None:
    """The namespace is made again: no set, no rule, no process. nginx starts first and does not wait."""
    rp = lab.rps[0]
    enforcer = rp.enforcer
    assert enforcer
    with ledger_writer(lab.redis) as writer:
        ban(writer, "192.0.2.21")
    agree(lab)
    enforcer.kill()
    rp.nginx.process.kill()
    rp.host.namespace.remove()
    wires_of_lab = lab._wires
    wait_until(lambda: f"{rp.host.name}-in" not in ip("-n", wires_of_lab.name, "link"), "its wires are gone")
    rp.host.namespace.create()
    wires.connect(wires_of_lab, rp.host)
    assert traces(rp.host.namespace) == []
    since = spoken(enforcer)
    rp.nginx.start()
    rp.nginx.await_ready()
    enforcer.start()
    await_said(enforcer, "follows the ledger", since)
    agree(lab)
    log = enforcer.log.read_text()[since:]
    assert log.index("firewall: made") < log.index("armed with") < log.index("follows the ledger")
    assert log.index("set pinban4") < log.index("rule")
    source = new_source(lab, 121)
    guesses(lab, source, range(6))
    await_ban(lab, source)


def test_killed_and_stopped_workers_of_nginx_hide_no_guess(lab: Lab) -> None:
    source = new_source(lab, 122)
    for rp in lab.rps:
        for worker in children(rp.nginx.process.pid):
            os.kill(worker, signal.SIGKILL)
        wait_until(partial(has_workers, rp.nginx.process.pid, 2), "nginx replaces its workers")
        os.kill(children(rp.nginx.process.pid)[0], signal.SIGSTOP)
    try:
        answered = 0
        while answered < 5 and source not in ledger(lab.redis):  # an answer that was late has been a guess all the same
            answered += sum(1 for answer in guesses(lab, source, range(10), timeout=0.3) if answer)
        await_ban(lab, source)
    finally:
        for rp in lab.rps:
            continue_all(children(rp.nginx.process.pid))


def has_workers(pid: int, count: int) -> bool:
    return sum(1 for child in children(pid) if state(child) not in ("", "Z")) == count


@pytest.fixture
def second(lab: Lab, tmp_path: Path) -> Iterator[Receiver]:
    own = {"receiver": {"node": "rx2", "listen": [f"udp:{wires.CORE}:5515"], "http": "127.0.0.1:8515"}}
    receiver = Receiver(merge(merge(RECEIVER, {"redis": {"url": lab.redis.url}}), own), tmp_path, lab.core.namespace)
    receiver.start()
    receiver.await_ready(lambda: bool(node(lab.redis, "rx2")))
    yield receiver
    with suppress(OSError):
        continue_all(tree(receiver))
    receiver.stop()


@pytest.mark.row(3)
def test_heartbeats_are_taken_over_when_their_sender_stops_or_dies(
    lab: Lab, receiver: Receiver, second: Receiver
) -> None:
    """The receiver that sends heartbeats is stopped, all its processes; then the one that took over is killed."""
    logs, receivers = logged(lab), {"rx1": receiver, "rx2": second}
    with lab.redis.client() as client:
        for number in (signal.SIGSTOP, signal.SIGKILL):
            heart = heartbeat_sender(client)
            victims = tree(receivers[heart])
            for victim in victims:
                os.kill(victim, number)
            wait_until(partial(is_replaced, client, heart), f"another takes over from {heart}")
            continue_all(victims if number == signal.SIGSTOP else [])
        last = client.get("{pinban}:heartbeat")
        wait_until(lambda: client.get("{pinban}:heartbeat") != last, "heartbeats go on")
    # By the time of the silence that enforcers bear; they are paused with the rest when this machine is.
    assert not any(said(rp.enforcer, "no heartbeat", logs[rp.host.name]) for rp in lab.rps if rp.enforcer)
    assert ledger(lab.redis) == members(lab.rps[0].host.namespace)


def is_replaced(client: redis.Redis, name: str) -> bool:
    return heartbeat_sender(client) not in ("", name)


def heartbeat_sender(client: redis.Redis) -> str:
    return plain(client.get("{pinban}:heartbeat")).partition("/")[0]
