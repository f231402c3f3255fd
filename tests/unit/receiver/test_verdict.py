"""The policy of a ban: when a limit is broken, how long the ban is, and what it is when Redis knows more."""

from __future__ import annotations

import json

import msgspec
import pytest

from receiver.failures import Counted, Failure
from receiver.store import expired
from receiver.testimony import Belief
from receiver.verdict import Circumstances, Verdict, age_ms, broken_rule, decide, senders
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.settings import BUILT_IN, Level, Rule

A = Network("203.0.113.7")

EVIDENCE = ("id1 10.0.0.11 meet.alice 1", "id2 10.0.0.12  2")

FACTS = (
    {"id": "id1", "rp": "10.0.0.11", "alias": "meet.alice", "at": "1"},
    {"id": "id2", "rp": "10.0.0.12", "alias": "", "at": "2"},
)


def verdict(found: Circumstances, chance: float = 0.0, name: str = "pin", **facts: object) -> Verdict | None:
    rules = dict(BUILT_IN)
    key = name.removesuffix(".long")
    rules[key] = msgspec.structs.replace(rules[key], **facts)
    return decide(Counted(A, name, 5, EVIDENCE), name, rules, found, chance)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_below_the_limit_nothing_is_broken(count: int) -> None:
    assert broken_rule(Counted(A, "pin", count), Rule()) is None


@pytest.mark.parametrize("count", [5, 6, 500])
def test_at_the_limit_and_above_it_the_rule_is_broken(count: int) -> None:
    assert broken_rule(Counted(A, "pin", count), Rule()) == "pin"


def test_a_verdict_says_whom_why_for_how_long_and_what_counts_from_zero() -> None:
    rules = tuple(BUILT_IN)
    found = verdict(Circumstances(), bantime=Milliseconds(60_000))
    assert found == Verdict(A, "pin", 60_000, FACTS, False, 604_800_000, rules, False)
    assert found is not None
    assert json.loads(found.told) == list(FACTS)


def test_an_address_on_the_allow_list_is_not_banned_whatever_it_did() -> None:
    assert verdict(Circumstances(allowed=True)) is None
    assert verdict(Circumstances(allowed=True, strikes=9, belief=Belief.UNKNOWN)) is None


def test_strikes_make_a_ban_longer_where_the_rule_says_so() -> None:
    growing = verdict(Circumstances(strikes=2), bantime_increment=True)
    assert growing is not None
    assert growing.bantime_ms == 4 * 300_000
    fixed = verdict(Circumstances(strikes=2))
    assert fixed is not None
    assert fixed.bantime_ms == 300_000


def test_no_ban_is_shorter_than_the_kernel_needs_to_have_it() -> None:
    short = verdict(Circumstances(), bantime_increment=True, bantime_factor=0.001)
    assert short is not None
    assert short.bantime_ms == 2_000


@pytest.mark.parametrize(
    "found", [Circumstances(belief=Belief.FORGED), Circumstances()], ids=["forged", "a simulating rule"]
)
def test_a_simulated_ban_lets_nobody_off_what_other_rules_counted(found: Circumstances) -> None:
    simulated = verdict(found, simulate=found.belief is Belief.REAL)
    assert simulated is not None
    assert (simulated.simulate, simulated.forgives) == (True, ("pin",))


@pytest.mark.parametrize(("bantime", "length"), [(300_000, 60_000), (10_000, 10_000)])
def test_a_ban_that_may_be_a_forgers_is_short_and_says_so(bantime: int, length: int) -> None:
    brief = verdict(Circumstances(belief=Belief.UNKNOWN), bantime=Milliseconds(bantime))
    assert brief is not None
    assert (brief.bantime_ms, brief.rule, brief.simulate) == (length, "pin.brief", False)
    assert brief.forgives == tuple(BUILT_IN)


def test_the_age_of_the_evidence_is_that_of_its_first_failure() -> None:
    evidence = ("a 10.0.0.5 meet 5000", "b 10.0.0.5 meet 3000", "c 10.0.0.5 meet 4000", "garbage")
    assert age_ms(Counted(A, "pin", 3, evidence), 6_000) == 3_000
    assert age_ms(Counted(A, "pin", 3, ()), 6_000) == 0


def test_only_a_ban_by_the_long_window_counts_that_from_zero() -> None:
    first, second = verdict(Circumstances()), verdict(Circumstances(), name="pin.long", long_maxretry=5)
    assert first is not None
    assert second is not None
    assert (first.long, second.long) == (False, True)
    assert second.rule == "pin.long"


def test_evidence_that_pinban_did_not_write_is_left_out() -> None:
    counted = Counted(A, "pin", 5, ("garbage", *EVIDENCE, "a b c d e"))
    found = decide(counted, "pin", BUILT_IN, Circumstances(), 0.0)
    assert found is not None
    assert found.evidence == FACTS
    assert senders(counted) == ["10.0.0.11", "10.0.0.12"]


@pytest.mark.parametrize(("age_ms", "late"), [(0, False), (299_999, False), (300_000, True), (10**9, True)])
def test_a_failure_as_old_as_findtime_counts_no_more(age_ms: int, late: bool) -> None:
    assert expired([Failure(A, "pin", "i", "rp", "a", 5)], {"pin": Rule()}, 5 + age_ms) == [late]


WIDE = Level(ipv6=True, length=48, maxretry=40)


@pytest.mark.parametrize(
    ("count", "joined", "broken"),
    [(39, 0, None), (40, 0, "pin"), (40, 1, None), (64, 25, None), (65, 25, "pin"), (79, 999, None), (80, 999, "pin")],
)
def test_joins_raise_the_limit_of_a_wider_network_to_twice_as_much_at_most(
    count: int, joined: int, broken: str | None
) -> None:
    counted = Counted(Network("2001:db8::/48"), "pin", count, level=WIDE, joined=joined)
    assert broken_rule(counted, Rule()) == broken


def test_no_hot_room_lowers_the_limit_of_a_wider_network() -> None:
    told = tuple(f"id{n} 2001:db8:0:{n}::/64 rp1 hot {n}" for n in range(1, 40))
    counted = Counted(Network("2001:db8::/48"), "pin", 39, told, WIDE)
    assert broken_rule(counted, Rule(), {"hot"}, 2) is None


def test_the_evidence_of_a_wider_network_names_the_clients() -> None:
    counted = Counted(Network("2001:db8::/48"), "pin", 40, ("id1 2001:db8:0:1::/64 10.0.0.11  7", "a b c 1"), WIDE)
    found = decide(counted, "pin", BUILT_IN, Circumstances(), 0.0)
    assert found is not None
    assert found.evidence == ({"id": "id1", "client": "2001:db8:0:1::/64", "rp": "10.0.0.11", "alias": "", "at": "7"},)
    assert (found.network, found.bantime_ms) == ("2001:db8::/48", 300_000)
    assert senders(counted) == ["10.0.0.11"]
