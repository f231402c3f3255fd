"""Snapshots of ledgers longer than a page: complete, whatever changes while they are read."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pytest
import redis

from enforcer import snapshot as reading
from enforcer.agent import Agent
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.snapshot import read_snapshot
from shared.addresses import Network
from shared.errors import StoreError
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Settings
from shared.store.store import Command, Store
from tests.lab.process import PATIENCE_S
from tests.redis.conftest import KEYS

LONG_MS = 600_000


@pytest.fixture
def ledger(settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Pages of ten bans."""
    monkeypatch.setattr(reading, "PAGE", 10)
    ledger = Ledger(Store(client))
    ledger.heartbeat("rx1")
    return ledger


def address(number: int) -> Network:
    return Network(f"10.0.{number >> 8}.{number & 255}")


def fill(client: redis.Redis, ends: list[int]) -> None:
    """So many bans, that end so many ms from now."""
    now = Store(client).now_ms()
    client.zadd(KEYS.bans, {address(i): now + end for i, end in enumerate(ends)})


@pytest.mark.parametrize("number", [1, 9, 10, 11, 20, 21, 305])
@pytest.mark.parametrize("alike", [1, 3, 10, 40, 1_000])
def test_every_ban_is_read_once_however_many_end_together(
    settings: Settings, client: redis.Redis, ledger: Ledger, number: int, alike: int
) -> None:
    fill(client, [LONG_MS + i // alike for i in range(number)])
    read = list(read_snapshot(Store(client)).bans)
    assert sorted(read) == sorted(dict(read).items())
    assert dict(read).keys() == {address(i) for i in range(number)}
    assert all(LONG_MS - 5_000 < left_ms <= LONG_MS + number for left_ms in dict(read).values())


class Impatient(Store):
    """Gives up a reader who asks without end."""

    asked = 0

    def whole(self, commands: Sequence[Command]) -> list[Any]:
        self.asked += 1
        assert self.asked <= 10, "it asks for the same page again and again"
        return super().whole(commands)


@pytest.mark.parametrize("number", [10, 11, 39, 40, 41])
def test_a_page_full_of_bans_that_end_together_is_not_the_last_thing_that_is_read(
    client: redis.Redis, ledger: Ledger, number: int
) -> None:
    fill(client, [LONG_MS] * number + [2 * LONG_MS])
    assert dict(read_snapshot(Impatient(client)).bans).keys() == {address(i) for i in range(number + 1)}


def test_what_is_over_or_no_network_is_left_out_of_every_page(
    settings: Settings, client: redis.Redis, ledger: Ledger
) -> None:
    fill(client, [-1_000 + i for i in range(25)] + [LONG_MS] * 25)
    client.zadd(KEYS.bans, {f"garbage {i}": 2**60 for i in range(25)} | {"203.0.113.7": float("inf")})
    snapshot = read_snapshot(Store(client))
    assert dict(snapshot.bans).keys() == {address(i) for i in range(25, 50)} | {"203.0.113.7"}
    assert snapshot.unreadable == 25


@pytest.mark.parametrize("seed", range(5))
def test_bans_and_unbans_between_pages_are_all_in_the_snapshot_or_in_the_events(
    settings: Settings, client: redis.Redis, ledger: Ledger, seed: int
) -> None:
    dice = random.Random(seed)
    fill(client, [dice.randrange(LONG_MS, 2 * LONG_MS) for _ in range(200)])
    firewall = DryRunFirewall()
    agent = Agent(firewall, lambda _: "")
    agent.arm()
    with client.pubsub() as channel:  # type: ignore[no-untyped-call]
        channel.subscribe(KEYS.channel)
        confirmed = channel.get_message(timeout=PATIENCE_S)
        assert confirmed
        assert confirmed["type"] == "subscribe"
        snapshot = read_snapshot(Store(client))

        def disturbed(bans: Iterator[tuple[Network, int]]) -> Iterator[tuple[Network, int]]:
            while page := list(islice(bans, dice.randrange(1, 15))):
                yield from page
                network = address(dice.randrange(250))
                if dice.random() < 0.5:
                    ledger.unban(network, "", "")
                if dice.random() < 0.5:
                    ledger.ban(NewBan(network, dice.randrange(LONG_MS, 3 * LONG_MS), "pin", "[]", "rx1"))

        snapshot.bans = disturbed(iter(snapshot.bans))
        agent.resync(snapshot)
        ledger.ban(NewBan(Network("192.0.2.1"), LONG_MS, "pin", "[]", "rx1"))
        while "192.0.2.1" not in firewall.bans():
            message = channel.get_message(timeout=PATIENCE_S)
            assert message is not None
            assert agent.follow([message["data"]])
    members: list[bytes] = client.execute_command("ZRANGE", KEYS.bans, 0, -1)  # type: ignore[no-untyped-call]
    wanted = {member.decode() for member in members}
    assert firewall.bans().keys() == wanted


@pytest.mark.parametrize("loss", ["flushed", "older"])
def test_a_ledger_that_is_lost_between_two_pages_ends_no_ban(
    settings: Settings, client: redis.Redis, ledger: Ledger, loss: str
) -> None:
    fill(client, [LONG_MS] * 5 + [2 * LONG_MS] * 95)
    client.incrby(KEYS.rev, 7)
    firewall = DryRunFirewall()
    agent = Agent(firewall, lambda _: "")
    agent.arm()
    agent.resync(read_snapshot(Store(client)))
    before = firewall.bans().keys()
    assert len(before) == 100
    position = agent.applied
    snapshot = read_snapshot(Store(client))
    if loss == "flushed":
        client.flushall()
    else:
        client.decr(KEYS.rev)
        client.zremrangebyrank(KEYS.bans, 50, -1)
    with pytest.raises(StoreError, match="replaced by another one"):
        agent.resync(snapshot)
    assert agent.applied == position
    agent.check()
    assert firewall.bans().keys() == before
    ledger.heartbeat("rx2")
    agent.resync(read_snapshot(Store(client)))
    assert firewall.bans().keys() == before, "another ledger, or an older one, ends nothing"
