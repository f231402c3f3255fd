"""Sets that fill up: they grow while rules refer to them, up to a limit, and a full one does no harm."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from math import inf

import pytest

from enforcer.agent import Agent
from enforcer.firewall.iptables.backend import IptablesFirewall
from enforcer.firewall.iptables.ipset import SMALL_BATCH
from enforcer.firewall.port import Capacity
from enforcer.reconcile import Plan
from enforcer.snapshot import Snapshot
from shared.addresses import Network
from shared.events import Ban, Stamp, encode
from tests.netfilter.conftest import CLIENT4, OTHER4, RP4, Lab, inside, run, until

LONG_MS = 600_000

#: By how much the kernel's clock of ticks may be behind, s.
TICKS_S = 0.1


def many(number: int, block: int = 0) -> dict[Network, int]:
    return {Network(f"10.{block}.{i >> 8}.{i & 255}"): LONG_MS for i in range(number)}


def little_by_little(firewall: IptablesFirewall, bans: dict[Network, int]) -> None:
    """So few at a time that the set's size is not checked before."""
    for batch in batches(bans):
        firewall.apply(Plan({network: bans[network] for network in batch}, frozenset()))


def batches(networks: Iterable[Network]) -> Iterator[list[Network]]:
    networks = iter(networks)
    while batch := list(islice(networks, SMALL_BATCH)):
        yield batch


def maxelem(name: str = "pinban4") -> int:
    found = re.search(r" maxelem (\d+) ", run("ipset", "list", "-t", name))
    assert found
    return int(found[1])


@contextmanager
def standing(size: int, limit: int, protocol: str = "tcp") -> Iterator[IptablesFirewall]:
    firewall = IptablesFirewall(maxelem=size, maxelem_limit=limit, protocol=protocol)
    firewall.install()
    try:
        yield firewall
    finally:
        firewall.close()


def test_a_bulk_that_would_crowd_a_set_makes_it_larger_first(rp: str) -> None:
    with standing(1_024, 16_384) as firewall:
        assert firewall.apply(Plan(many(800), frozenset())) == 0
        assert maxelem() == 1_024
        assert firewall.apply(Plan(many(3_000), frozenset())) == 0
        assert maxelem() == 8_192
        assert firewall.bans().keys() == many(3_000).keys()
        assert maxelem("pinban6") == 1_024
        assert "pinban4+" not in run("ipset", "list", "-n").split()
        assert list(firewall.install()) == [], "the rules refer to the larger set"


def test_growing_keeps_every_member_and_counter(rp: str) -> None:
    with standing(1_024, 4_096) as firewall:
        little_by_little(firewall, {Network(f"2001:db8:{i:x}::/64"): 100_000 + 1_000 * i for i in range(1, 900)})
        run("ipset", "add", "pinban6", "2001:db8::2", "timeout", "0")
        run("ipset", "add", "pinban6", "2001:db8::3", "timeout", "500", "packets", "7", "bytes", "77")
        run("ipset", "add", "pinban6", "2001:db8::4", "timeout", "500", "nomatch")
        before = firewall.bans()
        assert firewall.capacity().wanted
        assert firewall.enlarge() == ["set pinban6 larger, for 2048 bans instead of 1024"]
        assert firewall.bans().keys() == before.keys()
        saved = run("ipset", "save", "pinban6")
        assert re.search(r"2001:db8::3 timeout 49\d packets 7 bytes 77$", saved, re.MULTILINE)
        assert re.search(r"2001:db8::2 timeout 0 packets 0 bytes 0$", saved, re.MULTILINE)
        assert re.search(r"2001:db8::4 timeout 49\d nomatch packets 0", saved)
        assert not firewall.capacity().wanted
        assert firewall.enlarge() == []


def test_no_ban_outlives_its_end_by_growing_and_none_loses_more_than_two_seconds(rp: str) -> None:
    """Bans of two seconds to twenty, at every part of a second: some have less than a second left, listed as one."""
    with standing(1_024, 1_024) as firewall, standing(4_096, 4_096) as larger:
        networks = [Network(f"10.0.{i >> 8}.{i & 255}") for i in range(600)]
        made_s, made_by_s, lasts_s = {}, {}, {}
        for i, network in enumerate(networks):
            lasts_s[network] = 2 + i % 19
            made_s[network] = time.monotonic()
            firewall.apply(Plan({network: 1_000 * lasts_s[network]}, frozenset()))
            made_by_s[network] = time.monotonic()
            time.sleep(0.0025)
        assert until(lambda: 1_000 in firewall.bans().values())
        began = time.monotonic()
        assert "set pinban4 larger, for 4096 bans instead of 1024" in larger.enlarge()
        took_s = time.monotonic() - began
        earliest, latest = ends_s(larger)
        assert latest
        for network, end_s in latest.items():
            assert end_s <= made_by_s[network] + lasts_s[network] + TICKS_S
        for network, end_s in earliest.items():
            assert end_s >= made_s[network] + lasts_s[network] - 2 - took_s - TICKS_S
        surely = {n for n in networks if made_s[n] + lasts_s[n] - 2 - took_s > began + took_s + 2}
        assert surely
        assert surely <= latest.keys()


def ends_s(firewall: IptablesFirewall, for_s: float = 1.2) -> tuple[dict[Network, float], dict[Network, float]]:
    """When each ban ends, s of the monotonic clock: no later than the one, and no earlier than the other, as exactly as
    readings for a second show it. The kernel tells whole seconds, rounded down, and less than one as one.
    """
    no_later: dict[Network, float] = {}
    no_earlier: dict[Network, float] = {}
    until_s = time.monotonic() + for_s
    while (before := time.monotonic()) < until_s:
        bans = firewall.bans()
        after = time.monotonic()
        for network, left_ms in bans.items():
            no_later[network] = min(no_later.get(network, inf), after + left_ms / 1_000 + 1)
            no_earlier[network] = max(no_earlier.get(network, 0), before + (left_ms / 1_000 if left_ms > 1_000 else 0))
    return no_later, no_earlier


ENLARGE = "from enforcer.firewall import IptablesFirewall; IptablesFirewall(maxelem=262_144).enlarge()"


def entries(name: str) -> int:
    """How many members a set has; 0 when there is none of this name."""
    told = subprocess.run(["ipset", "list", "-t", name], capture_output=True, text=True, check=False).stdout
    found = re.search(r"^Number of entries: (\d+)$", told, re.MULTILINE)
    return int(found[1]) if found else 0


def test_no_ban_outlives_its_end_when_growing_is_held_up(rp: str) -> None:
    """The process is stopped after the kernel has listed members that are not yet in the larger set."""
    with standing(65_536, 65_536) as firewall:
        ends_by_s: dict[Network, float] = {}
        for batch in batches(Network(f"10.0.{i >> 8}.{i & 255}") for i in range(50_000)):
            firewall.apply(Plan(dict.fromkeys(batch, LONG_MS), frozenset()))
            ends_by_s |= dict.fromkeys(batch, time.monotonic() + LONG_MS / 1_000)
        with subprocess.Popen([sys.executable, "-c", ENLARGE]) as growing:
            assert until(lambda: entries("pinban4+") > 0, 30)
            growing.send_signal(signal.SIGSTOP)
            assert 0 < entries("pinban4+") < 50_000
            time.sleep(4)  # longer than the seconds that are taken off and that a reading leaves open
            growing.send_signal(signal.SIGCONT)
            assert growing.wait(60) == 0
        assert maxelem() == 262_144
        _, no_earlier = ends_s(firewall)
        assert no_earlier.keys() == ends_by_s.keys()
        assert max(end_s - ends_by_s[network] for network, end_s in no_earlier.items()) <= TICKS_S


def test_growing_waits_for_who_reads_the_set(rp: str) -> None:
    with standing(4_096, 4_096) as firewall, standing(8_192, 8_192) as larger, ThreadPoolExecutor(1) as pool:
        firewall.apply(Plan(many(3_000), frozenset()))
        reading = iter(firewall.members())
        next(reading)

        def enlarge() -> Sequence[str]:
            with inside(rp):
                return larger.enlarge()

        growing = pool.submit(enlarge)
        assert until(lambda: entries("pinban4+") > 0)
        assert not until(growing.done, 0.5), "the kernel does not let a set go that is being read"
        assert len(list(reading)) == 2_999
        assert growing.result(10) == [
            "set pinban4 larger, for 8192 bans instead of 4096",
            "set pinban6 larger, for 8192 bans instead of 4096",
        ]
        assert len(firewall.bans()) == 3_000


def test_a_smaller_set_that_stands_at_the_start_grows_to_the_setting(rp: str) -> None:
    run("sh", "-c", "ipset create pinban4 hash:net family inet timeout 0 counters maxelem 1000")
    run("ipset", "add", "pinban4", "203.0.113.7", "timeout", "100")
    firewall = IptablesFirewall(maxelem=4_096)
    agent = Agent(firewall, lambda _: "")
    agent.arm()
    assert (maxelem(), maxelem("pinban6")) == (4_096, 4_096)
    assert firewall.bans().keys() == {"203.0.113.7"}
    assert list(firewall.install()) == []
    firewall.close()


def test_what_an_interrupted_growth_left_over_is_removed(rp: str) -> None:
    with standing(1_024, 4_096) as firewall:
        run("ipset", "create", "pinban4+", "hash:net", "timeout", "0")
        assert list(firewall.install()) == []
        assert "pinban4+" not in run("ipset", "list", "-n").split()
        run("ipset", "create", "pinban4+", "hash:ip")
        firewall.apply(Plan(many(3_000), frozenset()))
        assert len(firewall.bans()) == 3_000
        run("ipset", "create", "pinban4+", "hash:net")
        firewall.disarm()
        assert "pinban" not in run("ipset", "list", "-n")


def test_a_growth_that_fails_leaves_the_bans_where_they_are(rp: str) -> None:
    """A foreign rule holds on to the name that the larger set needs."""
    with standing(1_024, 4_096) as firewall:
        firewall.apply(Plan(many(700), frozenset()))
        run("ipset", "create", "pinban4+", "hash:ip")
        run("iptables-legacy", "-A", "FORWARD", "-m", "set", "--match-set", "pinban4+", "src", "-j", "DROP")
        with pytest.raises(Exception, match="already exists"):
            firewall.apply(Plan(many(900), frozenset()))
        assert firewall.bans().keys() == many(700).keys()
        run("iptables-legacy", "-F", "FORWARD")
        assert firewall.apply(Plan(many(900), frozenset())) == 0
        assert len(firewall.bans()) == 900


def test_single_bans_fill_a_set_beyond_its_size_without_a_failure(rp: str) -> None:
    """They come faster than the once-a-second look at the set's size."""
    with standing(64, 4_096) as firewall:
        for network in many(600):
            assert firewall.apply(Plan({network: LONG_MS}, frozenset())) == 0
        assert firewall.bans().keys() == many(600).keys()


def test_a_banned_client_is_dropped_at_every_moment_of_growing(lab: Lab) -> None:
    """Datagrams without a pause, from a banned and from another address, while the set grows five times."""
    with inside(lab.client):
        banned, other = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener, banned, other:
        listener.bind((RP4, 80))
        listener.setblocking(False)
        banned.bind((CLIENT4, 0))
        other.bind((OTHER4, 0))
        over, heard = threading.Event(), Counter[str]()

        def knock() -> None:
            while not over.is_set():
                for client in (banned, other):
                    client.sendto(b"x", (RP4, 80))
                with suppress(BlockingIOError):
                    while True:
                        heard[listener.recvfrom(16)[1][0]] += 1

        with standing(1_024, 1_048_576, protocol="udp") as firewall:
            firewall.apply(Plan({Network(CLIENT4): LONG_MS}, frozenset()))
            knocking = threading.Thread(target=knock)
            knocking.start()
            try:
                for power in range(5):
                    before = heard[OTHER4]
                    assert firewall.apply(Plan(many(2_000 << power), frozenset())) == 0
                    assert until(lambda before=before: heard[OTHER4] > before)  # type: ignore[misc]
            finally:
                over.set()
                knocking.join()
            assert maxelem() == 65_536
    assert heard[CLIENT4] == 0


def test_at_its_limit_the_bans_that_last_longest_go_in_and_the_rest_is_counted(rp: str) -> None:
    with standing(1_024, 1_024) as firewall:
        firewall.apply(Plan(many(500), frozenset()))
        longer = {n: LONG_MS + 1_000 * i for i, n in enumerate(many(1_000, block=1))}
        unfit = firewall.apply(Plan(longer | {Network("2001:db8::/64"): LONG_MS}, frozenset()))
        bans = firewall.bans()
        assert many(500).keys() <= bans.keys(), "none that stands is put out"
        assert Network("2001:db8::/64") in bans, "the other family is not full"
        got_in = longer.keys() & bans.keys()
        assert len(got_in) == 1_000 - unfit
        assert got_in == set(list(longer)[unfit:])
        assert 1_000 < len(bans) <= 1_025
        capacity = firewall.capacity()
        assert (capacity.size, capacity.wanted) == (1_024, False)
        assert capacity.fill > 95
        assert "may not hold more than 1024 bans; raise enforcer.maxelem_limit" in capacity.alarm


def test_in_a_full_set_standing_bans_are_lengthened_and_ended_and_new_ones_wait(rp: str) -> None:
    with standing(64, 64) as firewall:
        firewall.apply(Plan(many(64), frozenset()))
        one, new = Network("10.0.0.1"), Network("10.9.9.9")
        assert firewall.apply(Plan({new: LONG_MS}, frozenset())) == 1
        assert firewall.apply(Plan({one: 2 * LONG_MS} | many(70, block=2), frozenset())) == 70
        assert firewall.bans()[one] > LONG_MS
        assert firewall.apply(Plan({}, frozenset({one}))) == 0
        assert one not in firewall.bans()


def test_an_agent_whose_set_is_full_follows_says_so_and_catches_up(rp: str) -> None:
    with standing(64, 64) as firewall:
        agent = Agent(firewall, lambda _: "")
        agent.arm()
        stamp = Stamp("0123456789abcdef", 1)
        agent.resync(Snapshot(stamp, iter({n: 4_000 + 30 * i for i, n in enumerate(many(100))}.items())))
        assert agent.unfit == 36
        assert agent.follow([encode(Ban(Stamp(stamp.epoch, 2), Network("203.0.113.7"), LONG_MS, "pin"))])
        assert agent.applied == (stamp.epoch, 2)
        assert agent.unfit == 37
        agent.check()
        assert agent.tally["repairs"] == 0, "nobody has changed the firewall"
        assert agent.tend().alarm

        def caught_up() -> bool:
            agent.check()
            return agent.unfit == 0

        assert until(caught_up, 20)
        assert "203.0.113.7" in firewall.bans()


def test_a_crowded_set_grows_when_the_agent_looks(rp: str) -> None:
    with standing(1_024, 4_096) as firewall:
        agent = Agent(firewall, lambda _: "")
        agent.arm()
        little_by_little(firewall, many(900))
        assert maxelem() == 1_024
        assert firewall.capacity().wanted
        assert agent.tend() == Capacity(bans=900, size=2_048, fill=43)
