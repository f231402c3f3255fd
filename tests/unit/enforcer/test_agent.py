"""The agent with the dry-run firewall: events, gaps, failures, lost ledgers, exempt networks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from enforcer.agent import Agent
from enforcer.desired import Desired
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.reconcile import Plan
from enforcer.snapshot import Snapshot
from shared.addresses import Network, NetworkSet
from shared.errors import FirewallError, StoreError
from shared.events import Ban, Heartbeat, Stamp, Unban, encode

A, B, C, FRIEND = (Network(text) for text in ("203.0.113.7", "203.0.113.8", "2001:db8:1:2::/64", "198.51.100.1"))

LONG_MS = 600_000


def exempt(network: Network) -> str:
    return "a friend" if NetworkSet([FRIEND]).overlaps(network) else ""


def ban(rev: int, network: Network, epoch: str = "e", ttl_ms: int = LONG_MS) -> bytes:
    return encode(Ban(Stamp(epoch, rev), network, ttl_ms, "pin"))


def unban(rev: int, network: Network, epoch: str = "e") -> bytes:
    return encode(Unban(Stamp(epoch, rev), network))


def heartbeat(rev: int, epoch: str = "e") -> bytes:
    return encode(Heartbeat(Stamp(epoch, rev), 0))


def snapshot(rev: int, networks: Iterable[Network] = (), epoch: str = "e", left_ms: int = LONG_MS) -> Snapshot:
    return Snapshot(Stamp(epoch, rev), dict.fromkeys(networks, left_ms).items(), 0)


class Brittle(DryRunFirewall):
    """Refuses to change while it is broken."""

    broken = False

    def apply(self, plan: Plan) -> int:
        if self.broken:
            raise FirewallError("broken; mend it")
        return super().apply(plan)


@pytest.fixture
def firewall() -> Brittle:
    return Brittle()


@pytest.fixture
def agent(firewall: Brittle) -> Agent:
    """Armed, and at revision 1 of an empty ledger."""
    agent = Agent(firewall, exempt)
    agent.arm()
    agent.resync(snapshot(1))
    return agent


def test_bans_and_unbans_reach_the_firewall_in_order(agent: Agent, firewall: Brittle) -> None:
    assert agent.follow([ban(2, A), ban(3, B), unban(4, A), ban(5, C), ban(6, A), heartbeat(6)])
    assert firewall.bans().keys() == {A, B, C}
    assert agent.follow([unban(7, C)])
    assert firewall.bans().keys() == {A, B}
    assert agent.applied == ("e", 7)
    assert agent.tend().bans == 2


def test_a_ban_in_the_firewall_is_as_long_as_the_ledgers(agent: Agent, firewall: Brittle) -> None:
    agent.follow([ban(2, A, ttl_ms=60_000)])
    assert 58_000 < firewall.bans()[A] <= 60_000


def test_events_known_already_change_nothing(agent: Agent, firewall: Brittle) -> None:
    agent.follow([ban(2, A), unban(3, A)])
    assert agent.follow([ban(2, A), heartbeat(1), heartbeat(3)])
    assert firewall.bans() == {}
    assert agent.tally["events"] == 2


@pytest.mark.parametrize("gap", [ban(4, B), unban(4, A), heartbeat(4), ban(3, B, "f"), heartbeat(2, "f")])
def test_at_a_gap_what_came_before_is_applied_and_a_snapshot_is_asked_for(
    agent: Agent, firewall: Brittle, gap: bytes
) -> None:
    assert not agent.follow([ban(2, A), gap, ban(5, C)])
    assert firewall.bans().keys() == {A}
    assert agent.applied == ("e", 2)
    assert agent.tally["gaps"] == 1


def test_before_the_first_snapshot_nothing_is_applied(firewall: Brittle) -> None:
    agent = Agent(firewall, exempt)
    agent.arm()
    assert not agent.follow([ban(1, A)])
    assert firewall.bans() == {}
    assert agent.applied == ("", -1)


def test_garbage_is_counted_and_the_next_event_applied(agent: Agent, firewall: Brittle) -> None:
    assert agent.follow([b"garbage", b"", ban(2, A), b"\xc1"])
    assert agent.tally["bad_events"] == 3
    assert firewall.bans().keys() == {A}


def test_a_change_that_the_firewall_refuses_is_not_counted_as_applied(agent: Agent, firewall: Brittle) -> None:
    firewall.broken = True
    with pytest.raises(FirewallError):
        agent.follow([ban(2, A), ban(3, B)])
    assert agent.applied == ("e", 1)
    assert agent.check_wanted.is_set()
    firewall.broken = False
    agent.resync(snapshot(3, [A, B]))
    assert firewall.bans().keys() == {A, B}
    assert agent.applied == ("e", 3)


def test_a_check_after_a_refusal_makes_up_for_it(agent: Agent, firewall: Brittle) -> None:
    firewall.broken = True
    with pytest.raises(FirewallError):
        agent.follow([ban(2, A)])
    firewall.broken = False
    agent.check()
    assert firewall.bans().keys() == {A}
    assert not agent.check_wanted.is_set()
    assert agent.follow([ban(2, A)])


@pytest.mark.row(19)
def test_a_check_puts_back_what_somebody_removed_and_removes_what_somebody_added(
    agent: Agent, firewall: Brittle
) -> None:
    agent.follow([ban(2, A)])
    firewall.apply(Plan({B: LONG_MS}, frozenset({A})))
    agent.check()
    assert firewall.bans().keys() == {A}
    assert agent.tally["repairs"] == 1
    agent.check()
    assert agent.tally["repairs"] == 1


def test_what_changes_while_a_check_reads_the_firewall_is_no_damage(
    agent: Agent, firewall: Brittle, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.follow([ban(2, A), ban(3, B, ttl_ms=LONG_MS)])

    def members() -> Iterator[tuple[Network, int]]:
        read = list(firewall.bans().items())
        agent.follow([unban(4, A), ban(5, C), unban(6, B), ban(7, B, ttl_ms=2 * LONG_MS)])
        firewall.apply(Plan({Network("192.0.2.1"): LONG_MS}, frozenset()))
        yield from [*read, (Network("192.0.2.1"), LONG_MS)]

    monkeypatch.setattr(firewall, "members", members)
    changes: list[Plan] = []
    monkeypatch.setattr(agent, "_report", changes.append)
    agent.check()
    assert [(set(change.add), set(change.remove)) for change in changes] == [(set(), {"192.0.2.1"})]
    assert firewall.bans().keys() == {B, C}
    assert firewall.bans()[B] > LONG_MS


def test_a_check_makes_a_firewall_that_is_gone_again(agent: Agent, firewall: Brittle) -> None:
    agent.follow([ban(2, A)])
    firewall.disarm()
    agent.check()
    assert firewall.bans().keys() == {A}


def test_an_exempt_network_is_never_dropped(agent: Agent, firewall: Brittle) -> None:
    assert agent.follow([ban(2, FRIEND), ban(3, Network("198.51.100.0/24")), ban(4, A)])
    assert firewall.bans().keys() == {A}
    assert agent.tally["exempt"] == 2
    agent.resync(snapshot(5, [FRIEND, A]))
    assert firewall.bans().keys() == {A}


def test_a_snapshot_removes_what_the_same_ledger_unbanned(agent: Agent, firewall: Brittle) -> None:
    agent.follow([ban(2, A), ban(3, B)])
    agent.resync(snapshot(9, [B, C]))
    assert firewall.bans().keys() == {B, C}


@pytest.mark.parametrize("lost", [snapshot(0, epoch=""), snapshot(1, [C], "f"), snapshot(2, [C])])
def test_a_ledger_that_lost_bans_ends_none_of_them(agent: Agent, firewall: Brittle, lost: Snapshot) -> None:
    agent.follow([ban(2, A), ban(3, B)])
    bans = dict(lost.bans)
    for _ in range(2):
        lost.bans = bans.items()
        agent.resync(lost)
    agent.check()
    assert firewall.bans().keys() == {A, B, *bans}


def test_an_orphan_is_ended_by_an_unban_and_owned_by_a_ban(agent: Agent, firewall: Brittle) -> None:
    agent.follow([ban(2, A), ban(3, B)])
    agent.resync(snapshot(1, epoch="f"))
    assert agent.follow([unban(2, A, "f"), ban(3, B, "f")])
    agent.resync(snapshot(4, epoch="f"))
    assert firewall.bans() == {}


def test_a_restarted_agent_ends_what_was_unbanned_meanwhile(agent: Agent, firewall: Brittle) -> None:
    agent.follow([ban(2, A), ban(3, B)])
    again = Agent(firewall, exempt)
    again.arm()
    again.resync(snapshot(4, [B]))
    assert firewall.bans().keys() == {B}


def test_a_restarted_agent_keeps_the_bans_of_a_ledger_that_is_gone(agent: Agent, firewall: Brittle) -> None:
    agent.follow([ban(2, A)])
    again = Agent(firewall, exempt)
    again.arm()
    again.resync(snapshot(1, [C], "f"))
    assert firewall.bans().keys() == {A, C}


def test_a_restarted_agent_keeps_them_even_if_the_new_ledger_is_read_at_the_second_try(
    agent: Agent, firewall: Brittle
) -> None:
    def failing() -> Iterator[tuple[Network, int]]:
        yield C, LONG_MS
        raise StoreError("gone")

    agent.follow([ban(2, A), ban(3, B)])
    again = Agent(firewall, exempt)
    again.arm()
    with pytest.raises(StoreError):
        again.resync(Snapshot(Stamp("f", 1), failing()))
    again.check()
    assert firewall.bans().keys() == {A, B}
    again.resync(snapshot(1, [C], "f"))
    assert firewall.bans().keys() == {A, B, C}


class LedgersAndFirewall(RuleBasedStateMachine):
    """Ledgers come and go, events are lost, time passes: what the firewall may hold at any moment."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 0
        self.desired = Desired(exempt)
        self.known: dict[Network, int] = {}  #: until when a network was ever told to be dropped

    networks = st.sampled_from([A, B, C, FRIEND, Network("198.51.100.0/28")])
    ttls = st.integers(1, 100)

    @initialize(bans=st.dictionaries(networks, ttls))
    def begin(self, bans: Mapping[Network, int]) -> None:
        self.snapshot(bans)

    @rule(network=networks, ttl_ms=ttls)
    def ban(self, network: Network, ttl_ms: int) -> None:
        refused = self.desired.ban(network, ttl_ms, self.now_ms)
        assert bool(refused) == bool(exempt(network))
        if not refused:
            self.known[network] = self.now_ms + ttl_ms

    @rule(network=networks)
    def unban(self, network: Network) -> None:
        self.desired.unban(network)
        self.known.pop(network, None)

    @rule(bans=st.dictionaries(networks, ttls))
    def snapshot(self, bans: Mapping[Network, int]) -> None:
        """The same ledger: what it lacks was unbanned, orphans apart."""
        orphans = {n: self.known[n] for n in self.desired.orphans if n in self.known and n not in bans}
        lost, refused = self.desired.replace(bans.items(), self.now_ms, keep_lost=False)
        self.known = orphans | {n: self.now_ms + ms for n, ms in bans.items() if not exempt(n)}
        assert (lost, refused) == (0, sum(bool(exempt(n)) for n in bans))

    @rule(bans=st.dictionaries(networks, ttls))
    def lost(self, bans: Mapping[Network, int]) -> None:
        """Another ledger: nothing that was dropped is let go before its time."""
        before = self.standing()
        lost, _ = self.desired.replace(bans.items(), self.now_ms, keep_lost=True)
        self.known |= {n: self.now_ms + ms for n, ms in bans.items() if not exempt(n)}
        assert lost == len(before.keys() - bans.keys())
        assert before.keys() - bans.keys() == self.desired.orphans

    @rule(bans=st.dictionaries(networks, ttls))
    def found(self, bans: Mapping[Network, int]) -> None:
        """Another ledger, and the firewall of an agent that knows no other: what only the firewall has stays."""
        new = {n: self.now_ms + ms for n, ms in bans.items() if n not in self.standing() and not exempt(n)}
        self.desired.forget_ended(self.now_ms)
        assert self.desired.keep((n, self.now_ms + ms) for n, ms in bans.items()) == len(new)
        assert new.keys() <= self.desired.orphans
        self.known |= new

    @rule(bans=st.dictionaries(networks, ttls), read=st.integers(0, 3), keep_lost=st.booleans())
    def unread(self, bans: Mapping[Network, int], read: int, keep_lost: bool) -> None:
        """Redis fails in the middle of a ledger: nothing is let go."""

        def failing() -> Iterator[tuple[Network, int]]:
            yield from list(bans.items())[:read]
            raise StoreError("gone")

        with pytest.raises(StoreError):
            self.desired.replace(failing(), self.now_ms, keep_lost=keep_lost)
        self.known |= {n: self.now_ms + ms for n, ms in list(bans.items())[:read] if not exempt(n)}

    def standing(self) -> dict[Network, int]:
        """What is to be dropped now, and until when."""
        return {n: end for n, end in self.desired.ends.items() if end > self.now_ms}

    @rule(ms=st.integers(0, 60))
    def time_passes(self, ms: int) -> None:
        self.now_ms += ms

    @invariant()
    def it_holds_what_it_was_told_until_its_end_and_no_friend(self) -> None:
        standing = self.standing()
        assert standing == {n: until for n, until in self.known.items() if until > self.now_ms}
        assert not any(exempt(network) for network in standing)
        assert self.desired.orphans <= self.desired.ends.keys()
        self.desired.forget_ended(self.now_ms)
        assert self.desired.ends == standing
        assert self.desired.orphans <= standing.keys()


TestDesired = LedgersAndFirewall.TestCase


class FollowingLedgers(RuleBasedStateMachine):
    """An agent that gets some events and some snapshots of ledgers that change, die and go back in time."""

    def __init__(self) -> None:
        super().__init__()
        self.firewall = DryRunFirewall()
        self.agent = Agent(self.firewall, exempt)
        self.agent.arm()
        self.epoch, self.rev = "e0", 0
        self.ledger: set[Network] = set()

    networks = st.sampled_from([A, B, C, FRIEND, Network("198.51.100.0/28")])

    def deliver(self, event: bytes, arrives: bool) -> None:
        if arrives and not self.agent.follow([event]):
            self.resync()

    @rule(network=networks, arrives=st.booleans())
    def ban(self, network: Network, arrives: bool) -> None:
        self.rev += 1
        self.ledger.add(network)
        self.deliver(ban(self.rev, network, self.epoch), arrives)

    @rule(network=networks, arrives=st.booleans())
    def unban(self, network: Network, arrives: bool) -> None:
        self.rev += 1
        self.ledger.discard(network)
        self.deliver(unban(self.rev, network, self.epoch), arrives)

    @rule()
    def heartbeat(self) -> None:
        """Whatever was lost before, a heartbeat mends it."""
        if not self.agent.follow([heartbeat(self.rev, self.epoch)]):
            self.resync()
        held = self.firewall.bans().keys()
        assert {n for n in self.ledger if not exempt(n)} <= held

    @rule()
    def resync(self) -> None:
        self.agent.resync(snapshot(self.rev, self.ledger, self.epoch))

    @rule()
    def flushed(self) -> None:
        """The ledger is gone. Whatever was dropped stays dropped: no mass unban."""
        held = set(self.firewall.bans())
        self.epoch, self.rev, self.ledger = f"e{int(self.epoch[1:]) + 1}", 0, set()
        self.resync()
        assert held <= self.firewall.bans().keys()

    @rule()
    def restarted(self) -> None:
        held = set(self.firewall.bans())
        self.agent = Agent(self.firewall, exempt)
        self.agent.arm()
        assert held == set(self.firewall.bans())

    @invariant()
    def no_friend_is_dropped(self) -> None:
        assert not any(exempt(network) for network in self.firewall.bans())


TestFollowing = FollowingLedgers.TestCase


def test_a_ban_that_ends_is_forgotten() -> None:
    desired = Desired(exempt)
    desired.ban(A, 100, now_ms=1_000)
    desired.forget_ended(1_099)
    assert desired.ends == {A: 1_100}
    desired.forget_ended(1_100)
    assert len(desired) == 0


def test_the_clock_of_the_agent_is_the_monotonic_one(agent: Agent, firewall: Brittle) -> None:
    before = time.monotonic()
    agent.follow([ban(2, A, ttl_ms=10_000)])
    assert firewall.bans()[A] <= 10_000 - (time.monotonic() - before) * 1_000 + 1_000


def test_the_connections_of_whoever_is_dropped_from_now_on_are_ended(firewall: Brittle) -> None:
    ended: list[set[Network]] = []
    agent = Agent(firewall, exempt, cut=lambda networks: ended.append(set(networks)))
    agent.arm()
    agent.resync(snapshot(1, [A, FRIEND]))
    assert agent.follow([ban(2, B), ban(3, FRIEND), ban(4, C), unban(5, A)])
    agent.resync(snapshot(5, [B, C]))
    firewall.broken = True
    with pytest.raises(FirewallError):
        agent.follow([ban(6, A)])
    assert ended == [{A}, {B, C}], "not again, not of the exempt, and not before they are dropped"
