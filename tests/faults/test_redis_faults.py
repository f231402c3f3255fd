"""Redis is emptied, frozen, full, forgetful, or throws subscribers out: bans stand, failures wait and count once."""

from __future__ import annotations

import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial

import pytest

from shared.addresses import Network
from tests.faults.tools import (
    NOTICED_S,
    agree,
    await_said,
    ban,
    counted_all,
    ids,
    ledger_writer,
    logged,
    numbered,
    said,
    sparing,
    spoken,
)
from tests.lab.accounts import counted_ids, totals
from tests.lab.datagrams import Sender, failure, unread
from tests.lab.kernel import members
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import await_ban, ledger, node, number, operate


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=2) as lab:
        yield lab


@pytest.fixture
def before(lab: Lab) -> int:
    """Failures that the receiver has counted so far."""
    wait_until(lambda: totals(lab.redis).get("queued") == 0, "nothing waits")
    return totals(lab.redis).get("counted", 0)


@pytest.mark.row(3)
def test_a_frozen_redis_blocks_no_reading_is_noticed_and_doubles_no_count(lab: Lab, before: int) -> None:
    """SIGSTOP: the kernel still acknowledges every byte, and commands sent meanwhile are carried out after the thaw."""
    assert lab.receiver
    with ledger_writer(lab.redis) as writer:
        ban(writer, "192.0.2.3")
    await_ban(lab, "192.0.2.3")
    logs = logged(lab)
    count = 12_000
    with Sender(lab.rps[0].host.namespace) as sender:
        pouring = lab.core.namespace.start(lambda: sender.pour(numbered(count, "203.1"), per_ms=1))
        wait_until(lambda: totals(lab.redis)["counted"] > before + 200, "the failures flow")
        lab.redis.freeze()
        frozen = time.monotonic()
        try:
            for rp in lab.rps:
                await_said(rp.enforcer, "no heartbeat for 6 s", logs[rp.host.name])
            assert time.monotonic() - frozen > NOTICED_S - 4, "the last heartbeat came up to 2.5 s before"
            assert lab.receiver.status("/healthz") == 200
            assert lab.receiver.status("/readyz") == 503
            assert said(lab.receiver, "did not answer in time")
            assert all("192.0.2.3" in members(rp.host.namespace) for rp in lab.rps)
            assert pouring.result() == count
            wait_until(lambda: unread(lab.core.namespace) == 0, "all is read while Redis is frozen")
        finally:
            lab.redis.thaw()
    counted_all(lab.redis, before + count)
    assert {id_: n for id_, n in counted_ids(lab.redis).items() if id_.startswith("203.1-")} == dict.fromkeys(
        ids(count, "203.1"), 1
    )
    with lab.redis.client() as client:
        counts = [int(client.get(key) or 0) for key in client.scan_iter(match="pinban:count:{203.1.*", count=1_000)]
    assert sum(counts) == count
    agree(lab)


@pytest.mark.row(7)
def test_scripts_flushed_all_the_time_under_load_cost_nothing(lab: Lab, before: int) -> None:
    count, ended = 3_000, threading.Event()

    def forget() -> int:
        with lab.redis.client() as client:
            times = 0
            while not ended.wait(0.01):
                client.script_flush()
                times += 1
            return times

    forgetting = lab.core.namespace.start(forget)
    with Sender(lab.rps[0].host.namespace) as sender:
        sender.pour(numbered(count, "203.2"), per_ms=2)
        sender.pour((failure("192.0.2.7", f"seven-{n}") for n in range(5)), per_ms=1)
    await_ban(lab, "192.0.2.7")
    counted_all(lab.redis, before + count + 5)
    ended.set()
    assert forgetting.result() > 20
    found = counted_ids(lab.redis)
    assert Counter({id_: found[id_] for id_ in ids(count, "203.2")}) == Counter(ids(count, "203.2"))
    agree(lab)


@pytest.mark.row(9)
def test_subscribers_cut_during_a_burst_of_bans_miss_none(lab: Lab) -> None:
    resyncs = {rp.host.name: number(lab.redis, rp.host.name, "resyncs") for rp in lab.rps}
    with ledger_writer(lab.redis) as writer, lab.redis.client() as client:
        for n in range(300):
            address = f"198.18.{n // 200}.{n % 200 + 1}"
            ban(writer, address)
            if n % 40 == 20:
                client.client_kill_filter(_type="pubsub")
            if n % 3 == 0:
                writer.unban(Network(address), "test", "test")
    assert len(ledger(lab.redis)) >= 200
    agree(lab)
    wait_until(lambda: all(number(lab.redis, name, "resyncs") > n for name, n in resyncs.items()), "it is visible")


@pytest.mark.row(5)
def test_a_full_redis_is_told_and_bans_all_the_same(lab: Lab, before: int) -> None:
    assert lab.receiver
    with lab.redis.client() as client, Sender(lab.rps[0].host.namespace) as sender:
        since = spoken(lab.receiver)
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        sender.pour((failure("192.0.2.5", f"five-{n}") for n in range(5)), per_ms=1)
        await_said(lab.receiver, "is full", since)
        wait_until(lambda: lab.receiver is not None and lab.receiver.status("/readyz") == 503, "it is not ready")
        await_ban(lab, "192.0.2.5")
        client.config_set("maxmemory", "0")
    counted_all(lab.redis, before + 5)
    wait_until(lambda: lab.receiver is not None and lab.receiver.is_ready(), "it is ready again")


@pytest.mark.row(8)
def test_a_password_that_is_not_ours_is_told_in_a_line_and_tried_again(lab: Lab, before: int) -> None:
    """It is changed under way, and every connection cut."""
    receiver = lab.receiver
    assert receiver
    since, logs, began = spoken(receiver), logged(lab), time.monotonic()
    standing = ledger(lab.redis)
    with lab.redis.client() as client:
        client.config_set("requirepass", "another")
        client.execute_command("AUTH", "another")
        for kind in ("pubsub", "normal"):
            client.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        with Sender(lab.rps[0].host.namespace) as sender:
            sender.pour((failure("192.0.2.8", f"eight-{n}") for n in range(5)), per_ms=1)
        await_said(receiver, "Authentication required", since)
        for rp in lab.rps:
            await_said(rp.enforcer, "Authentication required", logs[rp.host.name])
            assert standing <= members(rp.host.namespace)
        wait_until(lambda: receiver.status("/readyz") == 503, "it is not ready")
        time.sleep(2)
        said_of_it = receiver.log.read_text()[since:].count("Authentication required")
        assert said_of_it <= sparing(began), "not faster than once in five seconds and thread"
        client.config_set("requirepass", "")
    await_ban(lab, "192.0.2.8")
    counted_all(lab.redis, before + 5)
    agree(lab)


@pytest.mark.row(17)
def test_thousands_of_bans_in_a_moment_are_all_enforced_and_nobody_is_left_behind(lab: Lab) -> None:
    with ledger_writer(lab.redis) as writer:
        for n in range(2_500):
            ban(writer, f"198.19.{n // 250}.{n % 250 + 1}")
        agree(lab)
        for n in range(2_500):
            writer.unban(Network(f"198.19.{n // 250}.{n % 250 + 1}"), "test", "test")
        agree(lab)
    assert all(node(lab.redis, rp.host.name)["trouble"] == "" for rp in lab.rps)


@pytest.mark.row(2)
def test_a_redis_that_comes_back_empty_ends_no_ban_and_counts_anew(lab: Lab) -> None:
    with ledger_writer(lab.redis) as writer:
        ban(writer, "192.0.2.2")
    await_ban(lab, "192.0.2.2")
    standing, epoch = members(lab.rps[0].host.namespace), node(lab.redis, "rp1")["epoch"]
    logs = logged(lab)
    lab.redis.kill()
    shutil.rmtree(lab.directory / "redis" / "appendonlydir")
    lab.redis.start()
    lab.redis.await_ready()
    for rp in lab.rps:
        await_said(rp.enforcer, "not the one we knew", logs[rp.host.name])
    for name in logs:
        wait_until(partial(has_other_epoch, lab, name, epoch), f"{name} follows a new epoch")
    assert all(members(rp.host.namespace) == standing for rp in lab.rps)
    assert ledger(lab.redis) == set()
    with Sender(lab.rps[0].host.namespace) as sender:
        sender.pour((failure("192.0.2.22", f"again-{n}") for n in range(5)), per_ms=1)
    await_ban(lab, "192.0.2.22")
    assert operate(lab, "unban", "192.0.2.2").returncode == 0
    left = standing - {"192.0.2.2"} | {"192.0.2.22"}
    wait_until(lambda: all(members(rp.host.namespace) == left for rp in lab.rps), "the unban reaches the kernels")


def has_other_epoch(lab: Lab, name: str, epoch: str) -> bool:
    return node(lab.redis, name).get("epoch", epoch) not in ("", epoch)
