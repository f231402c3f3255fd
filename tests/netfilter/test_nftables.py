"""The table of the nftables backend: what is repaired, what is refused, what survives other writers."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from enforcer.firewall import netlink as nl
from enforcer.firewall.networks import checked
from enforcer.firewall.nftables import kernel as nft
from enforcer.firewall.nftables import sets as nftables_sets
from enforcer.firewall.nftables.backend import NftablesFirewall
from enforcer.reconcile import LONGEST_TIMEOUT_MS, Plan
from shared.addresses import Network
from shared.errors import FirewallError
from tests.netfilter.conftest import run

V4, V6 = Network("203.0.113.7"), Network("2001:db8:1:2::/64")


@pytest.fixture
def firewall(rp: str) -> Iterator[NftablesFirewall]:
    with closing(NftablesFirewall()) as firewall:
        firewall.install()
        yield firewall


def ban(firewall: NftablesFirewall, *networks: Network) -> int:
    return firewall.apply(Plan(dict.fromkeys(networks, 300_000), frozenset()))


def table(name: str = "pinban") -> str:
    """How nft shows the table, without members and what counts."""
    shown = re.sub(r" *elements = \{[^}]*\}\n", "", run("nft", "list", "table", "inet", name))
    return re.sub(r"packets \d+ bytes \d+", "", shown)


def test_what_stands_is_what_the_design_says(firewall: NftablesFirewall) -> None:
    shown = table()
    for line in (
        "type filter hook input priority filter - 10; policy accept;",
        "type filter hook output priority filter - 10; policy accept;",
        "tcp dport 443 jump from_member",
        "tcp sport 443 jump to_member",
        "ip saddr & 255.255.255.0 == @v4_24 goto refuse",
        'ip6 daddr & ffff:ffff:ffff:ffff:: == @v6_64 counter name "to_members" drop',
    ):
        assert line in shown
    assert "forward" not in shown
    assert run("nft", "list", "tables") == "table inet pinban\n"


def looks_wrong(firewall: NftablesFirewall) -> bool:
    """As the agent sees it every second."""
    try:
        return firewall.capacity().disturbed
    except FirewallError:
        return True


DAMAGES = {
    "ruleset flushed": "flush ruleset",
    "table deleted": "delete table inet pinban",
    "table flushed": "flush table inet pinban",
    "table asleep": "add table inet pinban { flags dormant; }",
    "chain flushed": "flush chain inet pinban from_member",
    "hook gone": "flush chain inet pinban input; delete chain inet pinban input",
    "hook later": "flush chain inet pinban input; delete chain inet pinban input;"
    "add chain inet pinban input { type filter hook input priority 300; policy accept; }",
    "policy changed": "add chain inet pinban input { policy drop; }",
    "foreign rule first": "insert rule inet pinban from_member accept",
    "foreign rule last": "add rule inet pinban output drop",
    "foreign chain": "add chain inet pinban theirs { type filter hook forward priority 0; policy drop; }",
    "rule replaced": "replace rule inet pinban input handle {handle} tcp dport 80 accept",
    "rule deleted": "delete rule inet pinban input handle {handle}",
    "set of another type": "flush table inet pinban; delete set inet pinban v4_32;"
    "add set inet pinban v4_32 {{ type ipv4_addr; flags interval; }}",
    "set gone": "flush table inet pinban; delete set inet pinban v6_64",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_install_mends(firewall: NftablesFirewall, damage: str) -> None:
    before = table()
    handle = re.search(r"dport 80 .*# handle (\d+)", run("nft", "-a", "list", "table", "inet", "pinban"))
    assert handle
    run("nft", *DAMAGES[damage].replace("{handle}", handle[1]).replace("{{", "{").replace("}}", "}").split())
    assert looks_wrong(firewall)
    assert firewall.install()
    assert sorted(table().splitlines()) == sorted(before.splitlines())
    assert list(firewall.install()) == []
    assert not looks_wrong(firewall)


def test_members_of_sets_that_stand_survive_a_repair(firewall: NftablesFirewall) -> None:
    ban(firewall, V4, V6, Network("10.0.0.0/22"))
    run("nft", "flush", "table", "inet", "pinban")
    assert firewall.install()
    assert firewall.bans().keys() == {V4, V6, Network("10.0.0.0/22")}


def test_the_table_loaded_again_by_hand_with_a_rule_changed_is_not_taken_for_ours(firewall: NftablesFirewall) -> None:
    saved = run("nft", "list", "ruleset")
    edited = saved.replace("tcp dport 443 jump from_member", "tcp dport 444 jump from_member")
    assert edited != saved
    subprocess.run(["nft", "-f", "-"], input="flush ruleset\n" + edited, text=True, check=True)
    assert firewall.install()
    assert "tcp dport 443 jump from_member" in table()


def test_a_new_process_adopts_what_stands_and_says_that_all_stood(firewall: NftablesFirewall) -> None:
    ban(firewall, V4, Network("10.0.0.0/22"))
    other = NftablesFirewall()
    assert list(other.install()) == []
    assert other.bans().keys() == {V4, Network("10.0.0.0/22")}
    run("nft", "flush", "chain", "inet", "pinban", "refuse")
    assert NftablesFirewall().install() == ["rules of chain refuse"]


def test_new_settings_replace_the_chains_and_keep_the_bans(firewall: NftablesFirewall) -> None:
    ban(firewall, V4)
    other = NftablesFirewall(chains=("DOCKER-USER",), ports="all", protocol="udp", action="reject")
    assert other.install()
    assert list(other.install()) == []
    shown = table()
    assert "hook forward" in shown
    assert "hook input" not in shown
    assert "meta l4proto udp jump from_member" in shown
    assert other.bans().keys() == {V4}


def test_the_first_ban_of_a_prefix_length_brings_its_set_and_rules(firewall: NftablesFirewall) -> None:
    ban(firewall, Network("10.0.0.0/22"))
    assert "ip saddr & 255.255.252.0 == @v4_22 goto refuse" in table()
    assert list(firewall.install()) == []


def test_what_others_have_is_left_alone(firewall: NftablesFirewall) -> None:
    run("nft", "add", "table", "inet", "theirs")
    run("nft", "add", "chain", "inet", "theirs", "input", "{ type filter hook input priority 0; policy drop; }")
    run("nft", "add", "table", "ip", "pinban")
    before = table("theirs")
    ban(firewall, V4)
    run("nft", "flush", "table", "inet", "pinban")
    firewall.install()
    firewall.disarm()
    assert table("theirs") == before
    assert run("nft", "list", "tables").split("\n") == ["table inet theirs", "table ip pinban", ""]


def test_a_member_added_by_hand_without_timeout_is_a_long_ban(firewall: NftablesFirewall) -> None:
    ban(firewall, V4)
    run("nft", "add", "element", "inet", "pinban", "v4_32", "{ 203.0.113.8 }")
    assert firewall.bans()[Network("203.0.113.8")] == LONGEST_TIMEOUT_MS
    assert firewall.bans().keys() == {V4, Network("203.0.113.8")}


def test_without_room_the_bans_that_last_longest_go_in_and_the_operator_is_told(rp: str) -> None:
    with closing(NftablesFirewall(maxelem=100, maxelem_limit=100)) as firewall:
        firewall.install()
        assert ban(firewall, *[Network(f"10.0.0.{i}") for i in range(80)], V6) == 0
        assert (firewall.capacity().bans, firewall.capacity().fill) == (81, 80)
        assert "raise enforcer.maxelem_limit" in firewall.capacity().alarm
        more = {Network(f"10.0.1.{i}"): 100_000 + 1_000 * i for i in range(30)}
        known = {Network("10.0.0.1"): 900_000}
        assert firewall.apply(Plan(more | known, frozenset())) == 10
        assert {n for n in more if n in firewall.bans()} == {Network(f"10.0.1.{i}") for i in range(10, 30)}
        assert firewall.bans()[Network("10.0.0.1")] > 800_000
        assert ban(firewall, Network("2001:db8:9:9::/64")) == 0, "the other family is not full"


def test_a_kernel_that_tells_no_counts_is_counted(firewall: NftablesFirewall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nftables_sets, "_SET_COUNT", 999)
    ban(firewall, V4, V6)
    assert firewall.capacity().bans == 2


def test_reading_a_set_from_which_others_vanish_misses_nothing(firewall: NftablesFirewall) -> None:
    """The kernel continues at the number of members that it has listed, so a removed member makes it skip others."""
    many = [Network(f"10.0.{i >> 8}.{i & 255}") for i in range(8_000)]
    ban(firewall, *many)
    reading = iter(firewall.members())
    first = [next(reading)[0] for _ in range(100)]
    firewall.apply(Plan({}, frozenset(first)))
    read = {network for network, _ in reading} | set(first)
    assert read == set(many)


@pytest.mark.parametrize("chains", [(), ("INPUT", "ufw-user-input")])
def test_chains_that_are_no_hooks_are_refused_with_the_remedy(chains: tuple[str, ...]) -> None:
    with pytest.raises(FirewallError, match=r"\[enforcer\] chains"):
        NftablesFirewall(chains=chains)


BAD_SETTINGS: list[dict[str, Any]] = [
    {"prefix": "-x"},
    {"prefix": "a b"},
    {"ports": ()},
    {"ports": (0,)},
    {"ports": (65536,)},
    {"protocol": "icmp"},
    {"protocol": "all"},
    {"action": "accept"},
]


@pytest.mark.parametrize("bad", BAD_SETTINGS, ids=str)
def test_settings_that_make_no_rules_are_refused_at_once(bad: dict[str, Any]) -> None:
    with pytest.raises(FirewallError, match="enforcer"):
        NftablesFirewall(**bad)


def test_only_canonical_networks_reach_the_kernel() -> None:
    with pytest.raises(FirewallError, match="not banned"):
        checked(Network("010.0.0.1"))


def test_without_the_right_to_it_the_error_says_whom_to_run_as(rp: str) -> None:
    program = (
        "from enforcer.firewall.nftables import NftablesFirewall as F; from shared.errors import FirewallError\n"
        "for verb in (F().install, F().bans, F().disarm):\n"
        "    try: verb()\n"
        "    except FirewallError as error: print(error)\n"
    )
    without = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"]
    told = run(*without, sys.executable, "-c", program).splitlines()
    assert len(told) == 3
    assert all("root or with CAP_NET_ADMIN" in line for line in told)


WRITER = """
import subprocess, sys
subprocess.run(["nft", "add table inet theirs; add chain inet theirs c"], check=True)
for number in range(int(sys.argv[1])):
    done = subprocess.run(["nft", f"add rule inet theirs c ip saddr 10.0.0.{number} accept"], stderr=subprocess.DEVNULL)
    if done.returncode == 0:
        print(f"ip saddr 10.0.0.{number} accept", flush=True)
"""


def test_another_writer_costs_nobody_a_rule_or_a_ban(rp: str) -> None:
    rounds = 0
    writing = subprocess.Popen([sys.executable, "-c", WRITER, "150"], stdout=subprocess.PIPE, text=True)
    with writing as writer, closing(NftablesFirewall()) as firewall:
        while writer.poll() is None:
            assert firewall.install()
            ban(firewall, V4, V6)
            assert firewall.bans().keys() == {V4, V6}
            firewall.disarm()
            rounds += 1
        assert writer.stdout is not None
        theirs = writer.stdout.read().splitlines()
    assert rounds > 5
    assert len(theirs) == 150
    assert re.findall(r"ip saddr 10\.0\.0\.\d+ accept", table("theirs")) == theirs


def test_a_member_that_stands_is_replaced_because_older_kernels_do_not_change_its_timeout(
    firewall: NftablesFirewall,
) -> None:
    ban(firewall, V4)
    with nft.listener(1 << 20) as heard:
        ban(firewall, V4)
        kinds = [kind & 0xFF for kind, _, _, _ in nl.messages(heard.recv(1 << 16))]
    assert nft.DEL_ELEMENTS in kinds
    assert kinds.count(nft.NEW_ELEMENTS) >= 1
