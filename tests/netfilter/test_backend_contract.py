"""What the agent may rely on, whichever backend it has. Effects on packets are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.firewall.port import Firewall
from enforcer.reconcile import LONGEST_TIMEOUT_MS, SLACK_MS, Plan, plan
from shared.addresses import Network
from shared.errors import FirewallError
from tests.netfilter.conftest import BACKENDS, until

V4, V4_WIDE, V6 = Network("203.0.113.7"), Network("203.0.113.0/28"), Network("2001:db8:1:2::/64")


@pytest.fixture(params=[*BACKENDS, "dry-run"])
def bare(request: pytest.FixtureRequest, rp: str) -> Iterator[Firewall]:
    firewall = DryRunFirewall() if request.param == "dry-run" else BACKENDS[request.param]()
    yield firewall
    firewall.close()


@pytest.fixture
def firewall(bare: Firewall) -> Firewall:
    bare.install()
    return bare


def ban(firewall: Firewall, bans: dict[Network, int]) -> None:
    firewall.apply(Plan(bans, frozenset()))


def test_it_has_the_name_of_its_setting(bare: Firewall) -> None:
    assert bare.name in {*BACKENDS, "dry-run"}


def test_a_new_firewall_has_no_bans_and_no_ledger(firewall: Firewall) -> None:
    assert (firewall.bans(), firewall.ledger()) == ({}, None)


def test_bans_of_both_families_and_every_width_read_back(firewall: Firewall) -> None:
    wanted = {V4: 300_000, V4_WIDE: 400_000, V6: 500_000, Network("::102:304"): 600_000, Network("2001:db8::1"): 9_000}
    ban(firewall, wanted)
    assert not plan(wanted, firewall.members())
    assert all(left_ms <= wanted[network] for network, left_ms in firewall.bans().items())


def test_an_add_lengthens_and_shortens(firewall: Firewall) -> None:
    ban(firewall, {V4: 300_000, V6: 300_000})
    ban(firewall, {V4: 900_000, V6: 60_000})
    assert not plan({V4: 900_000, V6: 60_000}, firewall.members())


def test_a_ban_ends_by_itself(firewall: Firewall) -> None:
    ban(firewall, {V4: 3_999, V6: 300_000})
    assert V4 in firewall.bans()
    assert until(lambda: V4 not in firewall.bans(), 10)
    assert V6 in firewall.bans()


def test_a_ban_without_a_second_left_is_not_made_and_does_not_outlive_its_end(firewall: Firewall) -> None:
    ban(firewall, {V4: 300_000})
    ban(firewall, {V4: 999, V6: 999})
    assert firewall.bans() == {}


def test_a_ban_longer_than_the_kernel_can_count_is_made_as_long_as_it_can(firewall: Firewall) -> None:
    ban(firewall, {V4: 10 * LONGEST_TIMEOUT_MS})
    assert LONGEST_TIMEOUT_MS - SLACK_MS < firewall.bans()[V4] <= LONGEST_TIMEOUT_MS


def test_a_network_is_removed_alone_and_removing_it_twice_is_no_error(firewall: Firewall) -> None:
    ban(firewall, {V4: 300_000, V4_WIDE: 300_000, V6: 300_000})
    for _ in range(2):
        firewall.apply(Plan({}, frozenset({V4, V6})))
    assert firewall.bans().keys() == {V4_WIDE}


def test_a_network_inside_a_wider_ban_is_made_and_removed_by_itself(firewall: Firewall) -> None:
    nested = [Network(text) for text in ("10.0.0.0/8", "10.0.0.0/24", "10.0.0.7", "2001:db8::/32", "2001:db8::/64")]
    for network in nested:
        ban(firewall, {network: 300_000})
    assert firewall.bans().keys() == set(nested)
    for network in nested[::-1]:
        firewall.apply(Plan({}, frozenset({network})))
        assert network not in firewall.bans()


def test_of_ten_thousand_changes_some_are_new_some_known_and_some_in_vain(firewall: Firewall) -> None:
    some = [Network(f"10.0.{i >> 8}.{i & 255}") for i in range(3_000)]
    ban(firewall, dict.fromkeys(some[:2_000], 300_000))
    firewall.apply(Plan(dict.fromkeys(some[1_000:], 600_000), frozenset([*some[:1_000], Network("192.0.2.1")])))
    assert not plan(dict.fromkeys(some[1_000:], 600_000), firewall.bans().items())


def test_adding_and_removing_go_in_one_plan(firewall: Firewall) -> None:
    ban(firewall, {V4: 300_000})
    firewall.apply(Plan({V6: 300_000}, frozenset({V4})))
    assert firewall.bans().keys() == {V6}


def test_an_empty_plan_changes_nothing(firewall: Firewall) -> None:
    firewall.apply(Plan({}, frozenset()))
    assert firewall.bans() == {}


@pytest.mark.row(17)
def test_ten_thousand_bans_at_once(firewall: Firewall) -> None:
    many = {Network(f"10.0.{i >> 8}.{i & 255}"): 300_000 for i in range(9_000)}
    many |= {Network(f"2001:db8:{i + 1:x}::/64"): 300_000 for i in range(1_000)}
    ban(firewall, many)
    assert not plan(many, firewall.members())
    firewall.apply(Plan({}, frozenset(many)))
    assert firewall.bans() == {}


@pytest.mark.parametrize(
    "text", ["example.org", "0.0.0.0/0", "::/0", "203.0.113.7/32", "1.2.3.4\nflush", "fe80::1%eth0"]
)
@pytest.mark.parametrize("fill", [0, 100])
def test_what_is_no_canonical_network_is_refused_and_nothing_of_its_plan_is_done(
    firewall: Firewall, text: str, fill: int
) -> None:
    others = {Network(f"10.0.0.{i}"): 300_000 for i in range(fill)}
    with pytest.raises(FirewallError):
        ban(firewall, others | {Network(text): 300_000})
    with pytest.raises(FirewallError):
        firewall.apply(Plan(others, frozenset({Network(text)})))
    assert firewall.bans() == {}


def test_before_install_nothing_is_known(bare: Firewall) -> None:
    with pytest.raises(FirewallError, match="next check"):
        bare.bans()
    with pytest.raises(FirewallError, match="next check"):
        ban(bare, {V4: 300_000})


def test_a_second_install_mends_nothing_and_keeps_the_bans(firewall: Firewall) -> None:
    ban(firewall, {V4: 300_000})
    assert list(firewall.install()) == []
    assert V4 in firewall.bans()


def test_the_ledger_is_the_one_remembered_last(firewall: Firewall) -> None:
    for epoch in ("0123456789abcdef", "fedcba9876543210", "fedcba9876543210"):
        firewall.remember_ledger(epoch)
        assert firewall.ledger() == epoch


def test_disarm_removes_bans_and_ledger_and_is_repeatable(firewall: Firewall) -> None:
    ban(firewall, {V4: 300_000})
    firewall.remember_ledger("0123456789abcdef")
    firewall.disarm()
    firewall.disarm()
    assert firewall.ledger() is None
    assert firewall.install()
    assert firewall.bans() == {}


def test_close_is_repeatable_and_keeps_the_bans(firewall: Firewall) -> None:
    ban(firewall, {V4: 300_000})
    firewall.close()
    firewall.close()
    assert V4 in firewall.bans()
    ban(firewall, {V6: 300_000})
    assert firewall.bans().keys() == {V4, V6}
