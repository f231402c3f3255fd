"""The pure decisions: whether a count is a ban, what the firewall must change, where an agent stands."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer.position import Position, Step
from enforcer.reconcile import LONGEST_TIMEOUT_MS, RENEW_MS, SLACK_MS, plan
from receiver.failures import Counted, Failure
from receiver.store.counters import expired
from receiver.verdict import Verdict, decide
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.events import Ban, Event, Heartbeat, Stamp, Unban
from shared.settings.schema import Rule

A, B = Network("203.0.113.7"), Network("2001:db8:1:2::/64")


@pytest.mark.parametrize("count", [0, 1, 4])
def test_below_the_limit_nobody_is_banned(count: int) -> None:
    assert decide(Counted(A, "pin", count), Rule()) is None


@pytest.mark.parametrize("count", [5, 6, 500])
def test_at_the_limit_and_above_it_the_network_is_banned(count: int) -> None:
    counted = Counted(A, "pin", count, ("id rp alias 1",))
    assert decide(counted, Rule()) == Verdict(A, "pin", 300_000, ("id rp alias 1",))


def test_the_rule_sets_limit_and_length() -> None:
    rule = msgspec.structs.replace(Rule(), maxretry=1, bantime=Milliseconds(60_000))
    verdict = decide(Counted(A, "pin", 1), rule)
    assert verdict is not None
    assert verdict.bantime_ms == 60_000


@pytest.mark.parametrize(("age_ms", "late"), [(0, False), (299_999, False), (300_000, True), (10**9, True)])
def test_a_failure_as_old_as_findtime_counts_no_more(age_ms: int, late: bool) -> None:
    assert expired([Failure(A, "pin", "i", "rp", "a", 5)], {"pin": Rule()}, 5 + age_ms) == [late]


lengths = st.integers(0, 2 * SLACK_MS) | st.integers(0, 2 * LONGEST_TIMEOUT_MS)
networks = st.sampled_from([Network(f"10.0.0.{i}") for i in range(6)] + [B])
bans = st.dictionaries(networks, lengths)


def applied(desired: Mapping[Network, int], actual: Mapping[Network, int]) -> dict[Network, int]:
    """What a kernel makes of the plan: timeouts of whole seconds, capped."""
    change = plan(desired, actual.items())
    kept = {network: ms for network, ms in actual.items() if network not in change.remove}
    added = {network: min(ms, LONGEST_TIMEOUT_MS) // 1_000 * 1_000 for network, ms in change.add.items()}
    return kept | added


@given(bans, bans)
def test_applying_a_plan_leaves_nothing_to_plan(desired: dict[Network, int], actual: dict[Network, int]) -> None:
    assert not plan(desired, applied(desired, actual).items())


@given(bans, bans)
def test_a_plan_makes_the_firewall_hold_what_is_desired(
    desired: dict[Network, int], actual: dict[Network, int]
) -> None:
    result = applied(desired, actual)
    for network in desired.keys() | result.keys():
        wanted, have = min(desired.get(network, 0), LONGEST_TIMEOUT_MS), result.get(network, 0)
        longer = desired.get(network, 0) > LONGEST_TIMEOUT_MS and have >= RENEW_MS
        assert abs(wanted - have) <= SLACK_MS or longer, network


@given(bans)
def test_what_agrees_needs_no_plan(desired: dict[Network, int]) -> None:
    assert not plan(desired, ((network, min(ms, LONGEST_TIMEOUT_MS)) for network, ms in desired.items()))


@pytest.mark.parametrize(
    ("desired", "actual", "add", "remove"),
    [
        ({A: SLACK_MS}, {}, False, False),
        ({A: SLACK_MS + 1}, {}, True, False),
        ({}, {A: SLACK_MS}, False, False),
        ({}, {A: SLACK_MS + 1}, False, True),
        ({A: 10_000}, {A: 10_000 - SLACK_MS}, False, False),
        ({A: 10_000}, {A: 10_000 + SLACK_MS + 1}, True, False),
        ({A: 10_000}, {A: 10_000 - SLACK_MS - 1}, True, False),
        ({A: 10 * LONGEST_TIMEOUT_MS}, {A: LONGEST_TIMEOUT_MS}, False, False),
        ({A: 10 * LONGEST_TIMEOUT_MS}, {A: RENEW_MS}, False, False),
        ({A: 10 * LONGEST_TIMEOUT_MS}, {A: RENEW_MS - 1}, True, False),
        ({A: LONGEST_TIMEOUT_MS}, {A: RENEW_MS}, True, False),
    ],
)
def test_near_its_end_a_ban_is_left_to_expire(
    desired: dict[Network, int], actual: dict[Network, int], add: bool, remove: bool
) -> None:
    change = plan(desired, actual.items())
    assert (A in change.add, A in change.remove) == (add, remove)
    assert bool(change) == (add or remove)


def at(epoch: str, rev: int) -> Position:
    position = Position()
    position.moved(Stamp(epoch, rev))
    return position


def ban(epoch: str, rev: int) -> Event:
    return Ban(Stamp(epoch, rev), A, 1, "pin")


@pytest.mark.parametrize(
    ("event", "step"),
    [
        (ban("e", 8), Step.APPLY),
        (Unban(Stamp("e", 8), A), Step.APPLY),
        (ban("e", 7), Step.IGNORE),
        (ban("e", 1), Step.IGNORE),
        (ban("e", 9), Step.RESYNC),
        (Unban(Stamp("e", 9), A), Step.RESYNC),
        (ban("f", 8), Step.RESYNC),
        (Heartbeat(Stamp("e", 7), 0), Step.IGNORE),
        (Heartbeat(Stamp("e", 6), 0), Step.IGNORE),
        (Heartbeat(Stamp("e", 8), 0), Step.RESYNC),
        (Heartbeat(Stamp("f", 7), 0), Step.RESYNC),
    ],
)
def test_at_revision_seven_an_event_is_applied_ignored_or_shows_a_gap(event: Event, step: Step) -> None:
    assert at("e", 7).step(event) is step


def test_before_the_first_snapshot_every_event_asks_for_one() -> None:
    assert Position().step(ban("e", 1)) is Step.RESYNC
    assert Position().step(Heartbeat(Stamp("e", 0), 0)) is Step.RESYNC


@pytest.mark.parametrize(
    ("snapshot", "trusted"),
    [(("e", 7), True), (("e", 9), True), (("e", 6), False), (("f", 9), False), (("", 0), False)],
)
def test_a_ledger_that_is_older_or_another_is_not_trusted_to_have_unbanned(
    snapshot: tuple[str, int], trusted: bool
) -> None:
    assert at("e", 7).trusts(Stamp(*snapshot), "e") is trusted


@pytest.mark.parametrize(("kernel", "trusted"), [("e", True), ("f", False), (None, False)])
def test_a_restarted_agent_trusts_the_ledger_that_its_kernel_remembers(kernel: str | None, trusted: bool) -> None:
    assert Position().trusts(Stamp("e", 9), kernel) is trusted
