"""A flood of bans: a hundred thousand a minute through the ledger, with enforcers that keep up or are cut off."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import redis

from shared.addresses import Network
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Redis, Settings
from shared.store.connection import connect
from shared.store.store import Store
from tests.lab.kernel import members
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import ledger, number

#: Bans of the flood, and their pace: 1,667 a second are 100,000 a minute.
BANS, PER_S = 8_000, 1_667


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=2) as lab:
        flood(lab, "100.60", 1, PER_S)  # a ledger begins with its first change, and every agent with a snapshot of it
        wait_until(partial(reported, lab), "both agents tell of the first ban")
        yield lab


def reported(lab: Lab) -> bool:
    with lab.redis.client() as client:
        rev = int(client.get("{pinban}:rev") or 0)
    return all(number(lab.redis, rp.host.name, "applied_rev") == rev for rp in lab.rps)


def flood(lab: Lab, network: str, number: int, per_s: int) -> float:
    """So many bans at this pace, or as fast as Redis takes them; the seconds it took."""
    settings = Settings(redis=Redis(url=f"unix://{lab.redis.socket}"))
    begun = time.monotonic()
    with connect(settings, "test", 5.0).client as client:
        writer = Ledger(Store(client))
        for n in range(number):
            writer.ban(NewBan(Network(f"{network}.{n >> 8}.{n & 255}"), 600_000, "pin", "[]", "test"))
            if n % 50 == 0:
                time.sleep(max(n / per_s - (time.monotonic() - begun), 0))
    return time.monotonic() - begun


def cpu_s(pid: int) -> float:
    """Processor time of a process and of the children it has waited for, s (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def agree(lab: Lab) -> bool:
    banned = ledger(lab.redis)
    return all(members(rp.host.namespace) == banned for rp in lab.rps)


@pytest.mark.row(17)
def test_a_ban_flood_of_a_hundred_thousand_a_minute_is_kept_up_with_at_a_cost_that_does_not_grow(lab: Lab) -> None:
    """What `make bench-bans` holds is the share of a processor; here, that the last bans cost what the first did."""
    agents = [rp.enforcer for rp in lab.rps if rp.enforcer]
    resyncs = [number(lab.redis, rp.host.name, "resyncs") for rp in lab.rps]
    spent, elapsed_s = [[cpu_s(agent.pid) for agent in agents]], 0.0
    for quarter in range(4):
        elapsed_s += flood(lab, f"100.{64 + quarter}", BANS // 4, PER_S)
        wait_until(partial(agree, lab), "every kernel holds the ledger")
        spent.append([cpu_s(agent.pid) for agent in agents])
    assert len(ledger(lab.redis)) == BANS + 1
    wait_until(partial(reported, lab), "both agents tell of the last ban")
    for n, agent in enumerate(agents):
        first, *_, last = [after[n] - before[n] for before, after in pairwise(spent)]
        assert last < 3 * first, spent
        assert "Traceback" not in agent.log.read_text()
        lines = len(re.findall(r"drops 100\.6[4-7]", agent.log.read_text()))
        assert lines <= 21 * (elapsed_s + 8), "and does not say so eight thousand times"
    assert [number(lab.redis, rp.host.name, "resyncs") for rp in lab.rps] == resyncs, "nobody lost an event"


def test_a_subscriber_cut_off_for_its_full_buffer_notices_and_comes_to_agree(lab: Lab) -> None:
    """Redis cuts who does not read: at 32 MB, or at 8 MB for a minute. Here at 64 kB, which a test can wait for."""
    frozen = lab.rps[0].enforcer
    assert frozen
    with lab.redis.client() as client:
        limits = str(client.config_get("client-output-buffer-limit")["client-output-buffer-limit"])
        client.config_set("client-output-buffer-limit", "pubsub 65536 65536 1")
        frozen.signal(signal.SIGSTOP)
        try:
            for turn in range(20):  # the sockets' own buffers take some hundred kB first
                flood(lab, f"100.{70 + turn}", 3_000, 1_000_000)
                if not subscribes(client, "rp1"):
                    break
            assert not subscribes(client, "rp1"), "Redis has cut the subscriber"
        finally:
            frozen.signal(signal.SIGCONT)
            client.config_set("client-output-buffer-limit", limits)
    wait_until(partial(agree, lab), "every kernel holds the ledger")
    assert frozen.running, "being frozen is no reason to end"
    assert len(ledger(lab.redis)) > BANS
    assert "Traceback" not in frozen.log.read_text()
    flood(lab, "100.69", 1, PER_S)
    wait_until(partial(agree, lab), "and follows again")


def subscribes(client: redis.Redis, node: str) -> bool:
    """Whether this enforcer does. Another that is slow may be cut too, which is no matter here."""
    return f"pinban-enforcer-{node}" in [each["name"] for each in client.client_list(_type="pubsub")]
