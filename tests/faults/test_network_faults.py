"""Links to Redis and from the RPs that are cut, frozen, slow or partitioned; datagrams doubled, late and twice."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from shared.addresses import Network
from tests.faults.tools import (
    agree,
    await_said,
    ban,
    counted_all,
    ids,
    ledger_writer,
    logged,
    numbered,
    reroute,
    said,
    spoken,
)
from tests.lab.accounts import counted_ids, totals, unbalanced
from tests.lab.daemons import RECEIVER, Receiver, merge
from tests.lab.datagrams import Sender, failure
from tests.lab.kernel import members
from tests.lab.lab import Lab, ReverseProxy
from tests.lab.process import wait_until
from tests.lab.proxy import TcpProxy, UdpProxy, Weather
from tests.lab.redis_server import RedisServer
from tests.lab.views import await_ban, counted, ledger, node, number, operate
from tests.lab.wires import CORE

#: Where the proxies stand: on the receiver's host, beside what they lead to.
BESIDE = "10.77.0.2"

BANS = 500

#: After so long gunicorn kills a worker that does not end, s; one that waits for nothing ends in a moment.
GRACEFUL_S = 10.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=3) as lab:
        lab.core.namespace.configure(f"addr add {BESIDE}/24 dev inside")
        yield lab


@contextmanager
def partitioned(rp: ReverseProxy) -> Iterator[None]:
    """Nothing passes between this RP and the inside, either way. In the mangle tables, where nobody else looks."""
    rules = [["-i", "inside"], ["-o", "inside"]]

    def cut(verb: str) -> None:
        for chain, rule in zip(("INPUT", "OUTPUT"), rules, strict=True):
            rp.host.namespace.run(["iptables-legacy", "-w", "-t", "mangle", verb, chain, *rule, "-j", "DROP"])

    cut("-I")
    try:
        yield
    finally:
        cut("-D")


@contextmanager
def by_proxy(lab: Lab, rp: ReverseProxy) -> Iterator[TcpProxy]:
    """This enforcer's way to Redis leads over a proxy."""
    direct, around = f"{CORE}:6379", f"{BESIDE}:6379"
    with TcpProxy(lab.core.namespace, (BESIDE, 6379), (CORE, 6379), seed=1) as proxy:
        lead(lab, rp, direct, around)
        yield proxy
        proxy.clear()
        lead(lab, rp, around, direct)


def lead(lab: Lab, rp: ReverseProxy, old: str, new: str) -> None:
    """Restart this enforcer with another address of Redis, and wait until the new one, not the old, says it is well."""
    assert rp.enforcer
    before = node(lab.redis, rp.host.name)["instance"]
    reroute(rp.enforcer, old, new)
    wait_until(lambda: node(lab.redis, rp.host.name)["instance"] != before and follows(lab, rp), f"it follows by {new}")


def follows(lab: Lab, rp: ReverseProxy) -> bool:
    """Its process reported a moment ago that it is where the ledger is."""
    fields = node(lab.redis, rp.host.name)
    with lab.redis.client() as client:
        now_ms, rev = int(client.time()[0]) * 1_000, int(client.get("{pinban}:rev") or 0)
    fresh = now_ms - int(fields["seen"]) < 2_000
    return fresh and fields["trouble"] == "" and int(fields["applied_rev"]) == rev


@pytest.mark.row(10)
def test_an_rp_that_is_partitioned_notices_harms_no_other_and_has_all_bans_after_it(lab: Lab) -> None:
    alone, *others = lab.rps
    with ledger_writer(lab.redis) as writer:
        ban(writer, "192.0.2.10")
        agree(lab)
        logs = logged(lab)
        with partitioned(alone):
            for n in range(BANS):
                address = f"198.18.{n // 200}.{n % 200 + 1}"
                ban(writer, address)
                if n % 50 == 0:
                    wait_until(partial(hold, others, address), "the others drop it")
            writer.unban(address, "test", "test")  # type: ignore[arg-type]
            await_said(alone.enforcer, "standing bans stay", logs[alone.host.name])
            wait_until(lambda: "silent" in operate(lab, "status").stdout, "status tells of it")
            assert operate(lab, "status").returncode == 1
            await_said(alone.enforcer, "more like it", logs[alone.host.name])
            assert members(alone.host.namespace) == {"192.0.2.10"}, "what stood there stands"
        agree(lab)
    assert len(ledger(lab.redis)) == BANS
    for rp in others:
        assert rp.enforcer
        assert not said(rp.enforcer, "standing bans stay", logs[rp.host.name])


def hold(rps: list[ReverseProxy], address: str) -> bool:
    return all(address in members(rp.host.namespace) for rp in rps)


@pytest.mark.row(10)
def test_a_link_that_swallows_everything_is_noticed_by_its_silence(lab: Lab) -> None:
    """What a subscriber sends is acknowledged, and nothing comes back: the socket never reports an error."""
    rp = lab.rps[0]
    with by_proxy(lab, rp) as proxy, ledger_writer(lab.redis) as writer:
        since, began = spoken_of(rp), time.monotonic()
        proxy.weather = Weather(frozen=True)
        for n in range(20):
            ban(writer, f"198.51.101.{n}")
        wait_until(partial(hold, lab.rps[1:], "198.51.101.19"), "the others are not held up")
        await_said(rp.enforcer, "no heartbeat for 6 s", since)
        assert time.monotonic() - began > 3, "the last heartbeat came up to 2.5 s before"
        assert "198.51.101.0" not in members(rp.host.namespace)
        proxy.cut()
        proxy.clear()
        agree(lab)


def spoken_of(rp: ReverseProxy) -> int:
    assert rp.enforcer
    return spoken(rp.enforcer)


@pytest.mark.row(9)
def test_a_connection_reset_again_and_again_during_a_burst_misses_no_ban(lab: Lab) -> None:
    rp = lab.rps[0]
    with by_proxy(lab, rp) as proxy, ledger_writer(lab.redis) as writer:
        before = number(lab.redis, rp.host.name, "resyncs")
        for n in range(200):
            ban(writer, f"198.51.102.{n + 1}")
            if n % 40 == 0:
                since = spoken_of(rp)
                proxy.cut()
                await_said(rp.enforcer, "follows the ledger", since)
        agree(lab)
        wait_until(lambda: number(lab.redis, rp.host.name, "resyncs") > before, "it is visible")


@pytest.mark.row(27)
def test_a_link_that_garbles_bytes_ends_no_enforcer_and_is_made_good_by_a_snapshot(lab: Lab) -> None:
    rp = lab.rps[0]
    with by_proxy(lab, rp) as proxy, ledger_writer(lab.redis) as writer:
        proxy.weather = Weather(garble=0.3)
        for n in range(100):
            ban(writer, f"198.51.103.{n + 1}")
        time.sleep(2)
        proxy.clear()
        proxy.cut()
        agree(lab)
        assert rp.enforcer
        assert rp.enforcer.running


@pytest.mark.row(4)
def test_a_redis_200_ms_away_is_no_loss_and_what_the_queue_cannot_hold_is_counted(lab: Lab) -> None:
    receiver = lab.receiver
    assert receiver
    with TcpProxy(lab.core.namespace, (BESIDE, 6379), (CORE, 6379)) as proxy:
        proxy.weather = Weather(delay_s=0.1)
        reroute(receiver, f"{CORE}:6379", f"{BESIDE}:6379")
        wait_until(receiver.is_ready, "it is ready, slow or not")
        restarted(lab)
        with Sender(lab.rps[0].host.namespace) as sender:
            sender.pour(numbered(4_000, "203.4"), per_ms=1)
            counted_all(lab.redis, 4_000)
            found = counted_ids(lab.redis)
            assert all(found[id_] == 1 for id_ in ids(4_000, "203.4"))
            sender.pour((failure("192.0.2.4", f"four-{n}") for n in range(5)), per_ms=1)
            await_ban(lab, "192.0.2.4")
            assert totals(lab.redis)["queue_dropped"] == 0

            proxy.weather = Weather(delay_s=0.1, frozen=True)
            flood = 40_000  # two workers hold 16,384 each
            sender.pour(numbered(flood, "203.44"), per_ms=4)
            proxy.cut()
            proxy.weather = Weather()
        sent = 4_000 + 5 + flood
        wait_until(lambda: totals(lab.redis)["received"] + totals(lab.redis)["drops"] == sent, "all have arrived")
        wait_until(lambda: totals(lab.redis)["queued"] == 0, "none waits")
        now = totals(lab.redis)
        assert unbalanced(now, sent) == ""
        assert now["queue_dropped"] >= flood - 2 * 16_384 - now["drops"]
        assert now["queue_dropped"] + now["counted"] == now["failures"]
        assert "wrong PINs lost because their queue was full" in operate(lab, "status").stdout
        youngest = [f"203.44-{flood - n}" for n in range(1, 200)]
        found = counted_ids(lab.redis)
        assert sum(found[id_] for id_ in youngest) == len(youngest), "the oldest made room"
        reroute(receiver, f"{BESIDE}:6379", f"{CORE}:6379")
        wait_until(receiver.is_ready, "it is ready")
    restarted(lab)


@pytest.mark.row(6)
def test_a_replica_that_takes_the_address_over_goes_on_with_every_ban(lab: Lab, tmp_path: Path) -> None:
    """Failover without sentinels: an address that leads to another server. The old master is frozen, not gone."""
    assert lab.receiver
    replica = RedisServer(Path(tempfile.mkdtemp(prefix="pinban-")), lab.core.namespace, bind=CORE, port=6380)
    replica.start()
    replica.await_ready()
    with TcpProxy(lab.core.namespace, (BESIDE, 6379), (CORE, 6379)) as address, replica.client() as client:
        client.execute_command("REPLICAOF", CORE, 6379)
        reroute(lab.receiver, f"{CORE}:6379", f"{BESIDE}:6379")
        for rp in lab.rps:
            lead(lab, rp, f"{CORE}:6379", f"{BESIDE}:6379")
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica follows")
        with ledger_writer(lab.redis) as writer:
            ban(writer, "192.0.2.6")
        agree(lab)
        wait_until(lambda: "192.0.2.6" in ledger(replica), "the replica has it")
        standing = {rp.host.name: members(rp.host.namespace) for rp in lab.rps}
        lab.redis.freeze()
        client.execute_command("REPLICAOF", "NO", "ONE")
        address.lead_to((CORE, 6380))
        address.cut()
        with Sender(lab.rps[0].host.namespace) as sender:
            sender.pour((failure("192.0.2.66", f"six-{n}") for n in range(5)), per_ms=1)
        await_ban(lab, "192.0.2.66")
        assert all(standing[rp.host.name] <= members(rp.host.namespace) for rp in lab.rps)
        for rp in lab.rps:
            wait_until(partial(holds, rp, replica), f"{rp.host.name} follows the replica")
        lab.redis.thaw()
        reroute(lab.receiver, f"{BESIDE}:6379", f"{CORE}:6379")
        for rp in lab.rps:
            lead(lab, rp, f"{BESIDE}:6379", f"{CORE}:6379")
        restarted(lab)
    replica.stop()
    shutil.rmtree(replica.socket.parent)
    with ledger_writer(lab.redis) as writer:
        writer.unban(Network("192.0.2.66"), "the old ledger never knew it", "test")
    agree(lab)


def holds(rp: ReverseProxy, server: RedisServer) -> bool:
    return members(rp.host.namespace) == ledger(server)


def restarted(lab: Lab) -> None:
    """Return when the receiver's hash is that of its new life."""
    wait_until(lambda: totals(lab.redis).get("received") == 0, "it counts from zero")


@pytest.mark.row(24)
def test_datagrams_that_come_twice_late_and_out_of_order_count_once_each(lab: Lab) -> None:
    before = totals(lab.redis)
    count = 4_000
    with UdpProxy(lab.core.namespace, (BESIDE, 5514), (CORE, 5514), seed=24) as proxy:
        proxy.weather = Weather(duplicate=0.3, reorder=0.3, delay_s=0.02)
        with Sender(lab.rps[0].host.namespace, (BESIDE, 5514)) as sender:
            sender.pour(numbered(count, "203.24"), per_ms=1)
        wait_until(lambda: proxy.tally["taken"] == count, "all were taken")
        wait_until(lambda: proxy.tally["passed"] == count + proxy.tally["doubled"], "all were passed")
        counted_all(lab.redis, before["counted"] + proxy.tally["passed"])
        assert proxy.tally["doubled"] > 1_000
    found = counted_ids(lab.redis)
    assert {id_: found[id_] for id_ in ids(count, "203.24")} == dict.fromkeys(ids(count, "203.24"), 1)
    assert not [address for address in ledger(lab.redis) if address.startswith("203.24.")]


@pytest.fixture
def second(lab: Lab, tmp_path: Path) -> Iterator[Receiver]:
    """Another receiver, on the same host."""
    own = {"receiver": {"node": "rx2", "listen": [f"udp:{BESIDE}:5514"], "http": "127.0.0.1:8515"}}
    told = merge(RECEIVER, {"redis": {"url": lab.redis.url}, "rules": {"pin": {"maxretry": 5}}})
    receiver = Receiver(merge(told, own), tmp_path, lab.core.namespace)
    receiver.start()
    receiver.await_ready(lambda: bool(node(lab.redis, "rx2")))
    yield receiver
    receiver.stop()


@pytest.mark.row(25)
def test_a_line_sent_to_two_receivers_counts_once(lab: Lab, second: Receiver) -> None:
    """Four failures, each sent to both: no ban. The fifth makes one ban and one strike."""
    host = lab.rps[0].host.namespace
    lines = [failure("192.0.2.25", f"twice-{n}") for n in range(5)]
    with Sender(host) as one, Sender(host, (BESIDE, 5514)) as other:
        for line in lines[:4]:
            one.send(line)
            other.send(line)
        wait_until(lambda: number(lab.redis, "rx2", "counted") == 4, "both have counted")
        wait_until(lambda: counted(lab.redis, "192.0.2.25") == 4, "both have counted")
        assert "192.0.2.25" not in ledger(lab.redis)
        other.send(lines[4])
        one.send(lines[4])
    await_ban(lab, "192.0.2.25")
    wait_until(lambda: number(lab.redis, "rx2", "counted") == 5, "both have counted")
    with lab.redis.client() as client:
        assert client.get("{pinban}:strikes:192.0.2.25") == b"1"


@pytest.mark.row(28)
def test_a_resolver_that_never_answers_and_a_redis_out_of_reach_hold_nothing_up(lab: Lab, tmp_path: Path) -> None:
    """Names in ignoreip, looked up at the start; connecting to an address from which nothing comes back."""
    core = lab.core.namespace
    etc = Path("/etc/netns") / core.name
    etc.mkdir(parents=True)
    (etc / "resolv.conf").write_text("nameserver 10.77.0.250\noptions timeout:30 attempts:3\n")
    own = {
        "ignoreip": ["127.0.0.0/8", "friend.example"],
        "redis": {"url": "redis://10.77.0.251:6379/0"},  # nobody has this address
        "receiver": {"node": "rx3", "listen": [f"udp:{BESIDE}:5515"], "http": "127.0.0.1:8515"},
    }
    core.configure("neigh add 10.77.0.250 lladdr 02:00:00:00:00:01 dev inside nud permanent")
    core.configure("neigh add 10.77.0.251 lladdr 02:00:00:00:00:01 dev inside nud permanent")
    receiver = Receiver(merge(RECEIVER, own), tmp_path, core)
    try:
        receiver.start()
        wait_until(
            lambda: said(receiver, "did not answer in time") or said(receiver, "cannot be reached"), "it says so"
        )
        with Sender(lab.rps[0].host.namespace, (BESIDE, 5515)) as sender:
            sender.pour((failure("192.0.2.28", f"far-{n}") for n in range(4)), per_ms=1)
        reroute(receiver, "10.77.0.251", CORE)
        receiver.await_ready(lambda: number(lab.redis, "rx3", "seen") > 0)
        with Sender(lab.rps[0].host.namespace, (BESIDE, 5515)) as sender:
            sender.pour((failure("192.0.2.28", f"near-{n}") for n in range(5)), per_ms=1)
        await_ban(lab, "192.0.2.28")
        began = time.monotonic()
        assert receiver.stop() == 0
        assert time.monotonic() - began < GRACEFUL_S, "a look-up under way is not waited for"
    finally:
        receiver.stop()
        (etc / "resolv.conf").unlink()
        with suppress(OSError):  # others may have theirs there
            etc.rmdir()
            etc.parent.rmdir()
