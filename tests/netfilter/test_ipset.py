"""How the iptables backend changes its sets: it starts no program, and loses nothing without an error."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from enforcer.firewall.iptables.backend import IptablesFirewall
from enforcer.firewall.iptables.ipset import SMALL_BATCH, Ipsets
from enforcer.firewall.iptables.ipset_members import told_elements
from enforcer.firewall.iptables.kernel import IpSet
from enforcer.reconcile import Plan
from shared.addresses import Network
from shared.errors import FirewallError
from tests.netfilter.conftest import descriptors, run

LONG_MS = 300_000


@pytest.fixture
def firewall(rp: str) -> Iterator[IptablesFirewall]:
    firewall = IptablesFirewall()
    firewall.install()
    yield firewall
    firewall.close()


def many(number: int) -> list[Network]:
    return [Network(f"10.0.{i >> 8}.{i & 255}") for i in range(number)]


def test_bans_the_capacity_and_the_marker_start_no_process_and_open_one_file(
    firewall: IptablesFirewall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The programs may as well not be there."""
    monkeypatch.setattr("subprocess.Popen", lambda *_, **__: pytest.fail("a process was started"))
    before = descriptors()
    for network in many(200):
        firewall.apply(Plan({network: LONG_MS}, frozenset()))
        assert firewall.capacity().bans
    assert descriptors() == before + 1
    firewall.apply(Plan(dict.fromkeys(many(3_000), LONG_MS), frozenset(many(100))))
    firewall.remember_ledger("0123456789abcdef")
    assert firewall.ledger() == "0123456789abcdef"
    assert firewall.enlarge() == []
    assert len(firewall.bans()) == 3_000
    firewall.close()
    assert descriptors() == before


BULK = many(SMALL_BATCH + 100)


@pytest.mark.parametrize(
    "plan", [Plan(dict.fromkeys(BULK, LONG_MS), frozenset()), Plan({}, frozenset(BULK))], ids=["add", "remove"]
)
def test_a_change_of_a_bulk_that_does_not_last_is_an_error(
    firewall: IptablesFirewall, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if another program had removed a member, or added one, before the large change was read back."""
    read = Ipsets.members

    def but_one(sets: Ipsets) -> Iterator[tuple[Network, int]]:
        standing = dict(read(sets))
        if plan.add:
            del standing[BULK[7]]
        else:
            standing[BULK[7]] = LONG_MS
        return iter(standing.items())

    firewall.apply(plan)
    with monkeypatch.context() as patch:
        patch.setattr(Ipsets, "members", but_one)
        with pytest.raises(FirewallError, match=rf"^1 changes such as {BULK[7]} did not last; stop the other program"):
            firewall.apply(plan)
    firewall.apply(plan)


@pytest.mark.parametrize("options", ["counters", "", "comment", "counters comment skbinfo"])
def test_members_of_a_set_that_others_made_are_read_alike(rp: str, options: str) -> None:
    """Every extension puts other bytes behind an element."""
    run("sh", "-ec", f"ipset create pinban4 hash:net timeout 0 {options}; ipset add pinban4 10.0.0.0/8 timeout 100")
    run("ipset", "create", "pinban6", "hash:net", "family", "inet6", "timeout", "0", *options.split())
    run("ipset", "add", "pinban6", "2001:db8::/64", "timeout", "0")
    firewall = IptablesFirewall()
    firewall.install()
    firewall.apply(Plan({Network("203.0.113.7"): LONG_MS}, frozenset()))
    bans = firewall.bans()
    assert bans.keys() == {"10.0.0.0/8", "203.0.113.7", "2001:db8::/64"}
    assert 90_000 < bans[Network("10.0.0.0/8")] <= 100_000
    assert bans[Network("2001:db8::/64")] == 2_147_483_000
    firewall.close()


def test_a_set_of_another_type_has_no_members(rp: str) -> None:
    """Its elements are not networks, or are of the other family; the next install refuses it."""
    run("sh", "-ec", "ipset create a bitmap:port range 1-9; ipset add a 7; ipset create b hash:net family inet6")
    run("ipset", "add", "b", "2001:db8::/64")
    with IpSet() as kernel:
        for name in "ab":
            told = [each for data in kernel.elements(name) for each in told_elements(data, 4)]
            assert told == []
