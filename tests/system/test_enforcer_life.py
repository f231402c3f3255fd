"""An enforcer dies, stops, is disarmed; and what it never enforces."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from shared.addresses import Network
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Redis, Settings
from shared.store.connection import connect
from shared.store.store import Store
from tests.lab.daemons import Enforcer
from tests.lab.kernel import members, traces
from tests.lab.lab import Lab, ReverseProxy
from tests.lab.prober import Prober
from tests.lab.process import wait_until
from tests.lab.views import await_ban, guesses, ledger, new_source, number, operate, unanswered

IGNORED = "198.51.100.103"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    settings = {"ignoreip": ["127.0.0.0/8", "::1", IGNORED, "192.0.2.0/24"]}
    with Lab(rps=2, settings=settings) as lab:
        yield lab


@pytest.fixture
def enforcer(lab: Lab) -> Enforcer:
    enforcer = lab.rps[0].enforcer
    assert enforcer
    if not enforcer.running:
        enforcer.start()
        agree(lab)
    return enforcer


def agree(lab: Lab) -> None:
    """Every kernel holds the ledger, no more and no less."""
    for rp in lab.rps:
        wait_until(partial(agrees, lab, rp), f"{rp.host.name} holds the ledger")


def agrees(lab: Lab, rp: ReverseProxy) -> bool:
    return members(rp.host.namespace) == ledger(lab.redis)


@pytest.mark.row(20)
def test_a_killed_enforcer_lets_nothing_through_and_catches_up(lab: Lab, enforcer: Enforcer) -> None:
    banned, freed, caught = (new_source(lab, last) for last in (110, 111, 112))
    for source in (banned, freed):
        guesses(lab, source, range(5))
        await_ban(lab, source)
    prober = Prober(lab.addresses(), banned)
    probing = lab.attacker.namespace.start(prober.run)

    enforcer.kill()
    assert operate(lab, "unban", freed).returncode == 0
    assert operate(lab, "ban", "203.0.113.77").returncode == 0
    guesses(lab, caught, range(5))
    wait_until(lambda: caught in ledger(lab.redis), "the ledger bans while the enforcer is dead")
    assert ledger(lab.redis) == {banned, caught, "203.0.113.77"}
    assert members(lab.rps[0].host.namespace) == {banned, freed}

    enforcer.start()
    agree(lab)
    prober.stop()
    knocks = probing.result()
    assert knocks.sent > 100
    assert knocks.answers == []
    assert guesses(lab, freed, range(2)).count(None) == 0


@pytest.mark.row(20)
def test_bans_and_deaths_by_turns_leave_kernel_and_ledger_equal(lab: Lab, enforcer: Enforcer) -> None:
    """Killed while events come in, not only between them."""
    settings = Settings(redis=Redis(url=f"unix://{lab.redis.socket}"))
    with connect(settings, "test", 2.0).client as client:
        ledger_writer = Ledger(Store(client))
        for life in range(3):
            for n in range(200):
                ledger_writer.ban(NewBan(Network(f"203.0.{113 + life}.{n + 1}"), 60_000, "pin", "[]", "test"))
                if n == 100:
                    enforcer.kill()
            enforcer.start()
            agree(lab)


def test_a_stopped_enforcer_leaves_protection_and_disarm_leaves_no_trace(lab: Lab, enforcer: Enforcer) -> None:
    source, other = new_source(lab, 120), new_source(lab, 121)
    guesses(lab, source, range(5))
    await_ban(lab, source)
    assert enforcer.stop() == 0
    host = lab.rps[0].host.namespace
    assert source in members(host)
    assert unanswered(lab, source)
    assert guesses(lab, other, range(2)).count(None) == 0

    assert traces(host)
    dry = ["env", "PINBAN_ENFORCER_BACKEND=dry-run"]  # as somebody may have set it because of trouble
    done = host.run([*dry, *enforcer.argv, "--disarm"])
    assert "disarmed" in done.stderr
    assert traces(host) == [], "whatever the backend is now"
    assert guesses(lab, source, range(2)).count(None) == 1, "the other reverse proxy still drops it"
    assert host.run([*enforcer.argv, "--disarm"]).returncode == 0, "once more does no harm"


@pytest.mark.row(18)
def test_ignored_and_own_addresses_are_never_banned(lab: Lab) -> None:
    """On the receiver's side: an address of ignoreip, by way of nginx; its own address, by the operator."""
    before = number(lab.redis, "rx1", "ignored")
    new_source(lab, 103)
    assert guesses(lab, IGNORED, range(12)).count(None) == 0
    wait_until(lambda: number(lab.redis, "rx1", "ignored") == before + 12, "twelve failures are ignored")
    assert IGNORED not in ledger(lab.redis)
    for address, why in ((IGNORED, "ignoreip"), (lab.core.inside, "this host"), ("192.0.0.0/16", "ignoreip")):
        done = operate(lab, "ban", address)
        assert done.returncode != 0
        assert why in done.stderr
    with lab.redis.client() as client:
        assert not client.keys(f"pinban:*{{{IGNORED}}}*")


@pytest.mark.row(18)
def test_a_ledger_that_bans_ignored_and_own_addresses_is_not_obeyed(lab: Lab, enforcer: Enforcer) -> None:
    """As an event, and in the snapshot after a restart. The other proxy's address is its own there alone."""
    rp1, rp2 = (rp.host for rp in lab.rps)
    settings = Settings(redis=Redis(url=f"unix://{lab.redis.socket}"))
    wrong = {IGNORED, "192.0.2.0/25", rp1.outside, rp1.inside, "127.0.0.1"}
    with connect(settings, "test", 2.0).client as client:
        ledger_writer = Ledger(Store(client))
        for network in (*wrong, "203.0.120.1"):
            ledger_writer.ban(NewBan(Network(network), 60_000, "pin", "[]", "test"))
        wait_until(lambda: "203.0.120.1" in members(rp1.namespace), "the event after them is applied")
        assert not members(rp1.namespace) & wrong
        assert enforcer.stop() == 0
        enforcer.start()
        ledger_writer.ban(NewBan(Network("203.0.120.2"), 60_000, "pin", "[]", "test"))
        wait_until(lambda: "203.0.120.2" in members(rp1.namespace), "the enforcer follows again")
        assert not members(rp1.namespace) & wrong
        assert members(rp2.namespace) & wrong == {rp1.outside, rp1.inside}
        for network in wrong:
            ledger_writer.unban(Network(network), "end of test", "test")
