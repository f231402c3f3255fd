"""The rules of the iptables backend: what is repaired, what is refused, what survives other writers."""

from __future__ import annotations

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from enforcer.firewall.iptables import backend as iptables
from enforcer.firewall.iptables.backend import IptablesFirewall
from enforcer.reconcile import Plan
from shared.addresses import Network
from shared.errors import FirewallError
from tests.netfilter.conftest import run

TOOLS = ("iptables-legacy", "ip6tables-legacy")


@pytest.fixture
def firewall(rp: str) -> Iterator[IptablesFirewall]:
    firewall = IptablesFirewall()
    firewall.install()
    yield firewall
    firewall.close()


def rules(tool: str, chain: str = "") -> list[str]:
    return [line for line in run(tool, "-w", "-S", *chain.split()).splitlines() if line.startswith("-A")]


def everything() -> list[str]:
    return [*rules(TOOLS[0]), *rules(TOOLS[1]), *sorted(run("ipset", "list", "-n").split())]


STANDING = [
    "-A INPUT -j pinban",
    "-A OUTPUT -j pinban",
    "-A pinban -p tcp -m set --match-set pinban{} src -m set --match-set pinban-ports dst -m comment --comment pinban"
    " -j DROP",
    "-A pinban -p tcp -m set --match-set pinban{} dst -m set --match-set pinban-ports src -m comment --comment pinban"
    " -j DROP",
]
ALL_STANDING = [line.format(n) for n in (4, 6) for line in STANDING] + ["pinban-ports", "pinban4", "pinban6"]


def test_what_stands_is_what_the_design_says(firewall: IptablesFirewall) -> None:
    assert everything() == ALL_STANDING


DAMAGES = {
    "rules flushed": "{0} -F; {1} -F",
    "chain gone": "{0} -F; {0} -X; {1} -F; {1} -X",
    "jump gone": "{0} -D INPUT 1; {1} -D OUTPUT 1",
    "jump moved": "{0} -I INPUT -p icmp -j ACCEPT; {0} -A INPUT -j pinban; {0} -D INPUT 2; {0} -D INPUT 1;"
    "{1} -I OUTPUT -p tcp -j pinban",
    "jump twice": "{0} -A INPUT -j pinban; {1} -A FORWARD -j pinban",
    "jump narrowed": "{0} -D INPUT 1; {0} -I INPUT -p udp -j pinban; {1} -D INPUT 1; {1} -I INPUT -i lo -j pinban",
    "goto for jump": "{0} -D INPUT 1; {0} -I INPUT -g pinban",
    "rule before ours": "{0} -I pinban -j RETURN; {1} -I pinban -m length --length 40 -j ACCEPT",
    "rule changed": "{0} -R pinban 1 -p tcp -m set --match-set pinban4 src -m tcp --dport 80 -j DROP",
    "rule accepts": "{0} -R pinban 2 -p tcp -m set --match-set pinban4 dst -m set --match-set pinban-ports src"
    " -m comment --comment pinban -j ACCEPT",
    "rule deleted": "{0} -D pinban 2; {1} -D pinban 1",
    "sets and rules gone": "{0} -F; ipset destroy pinban4; {1} -F; ipset destroy pinban6",
    "ports flushed": "ipset flush pinban-ports",
    "ports changed": "ipset add pinban-ports 8080; ipset del pinban-ports 443",
    "ports gone": "{0} -F; {1} -F; ipset destroy pinban-ports",
    "one set gone": "{1} -F pinban; ipset destroy pinban6",
}


@pytest.mark.row(19)
@pytest.mark.parametrize("damage", DAMAGES)
def test_install_mends(firewall: IptablesFirewall, damage: str) -> None:
    run("sh", "-ec", DAMAGES[damage].format(*TOOLS))
    assert firewall.install()
    assert everything() == ALL_STANDING
    assert firewall.install() == []


def test_a_jump_pushed_from_its_place_is_moved_back_and_the_intruder_kept(firewall: IptablesFirewall) -> None:
    run(TOOLS[0], "-I", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT")
    assert firewall.install() == ["IPv4 jump from INPUT (out of place)"]
    intruder = "-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT"
    assert rules(TOOLS[0], "INPUT") == ["-A INPUT -j pinban", intruder]


@pytest.mark.row(19)
def test_a_flushed_set_is_empty_and_takes_bans_again(firewall: IptablesFirewall) -> None:
    network = Network("203.0.113.7")
    firewall.apply(Plan({network: 300_000}, frozenset()))
    run("ipset", "flush")
    assert (firewall.bans(), firewall.install()) == ({}, ["set pinban-ports"])
    firewall.apply(Plan({network: 300_000}, frozenset()))
    assert network in firewall.bans()


def test_a_missing_set_is_an_error_and_not_no_bans(firewall: IptablesFirewall) -> None:
    run("sh", "-ec", "{1} -F; ipset destroy pinban6".format(*TOOLS))
    with pytest.raises(FirewallError, match="next check"):
        firewall.bans()
    with pytest.raises(FirewallError, match="next check"):
        firewall.apply(Plan({Network("2001:db8:1:2::/64"): 300_000}, frozenset()))
    firewall.install()
    firewall.apply(Plan({Network("2001:db8:1:2::/64"): 300_000}, frozenset()))
    assert "2001:db8:1:2::/64" in firewall.bans()


def test_new_settings_replace_rules_and_jumps_and_keep_the_bans(firewall: IptablesFirewall) -> None:
    firewall.apply(Plan({Network("203.0.113.7"): 300_000}, frozenset()))
    other = IptablesFirewall(chains=("FORWARD",), ports=range(1000, 1020), protocol="udp")
    assert other.install()
    assert other.install() == []
    for tool in TOOLS:
        assert rules(tool, "INPUT") + rules(tool, "OUTPUT") == []
        assert rules(tool, "FORWARD") == ["-A FORWARD -j pinban"]
        assert [rule.startswith("-A pinban -p udp ") for rule in rules(tool, "pinban")] == [True, True]
    assert sorted(re.findall(r"^add pinban-ports (\d+)$", run("ipset", "save", "pinban-ports"), re.MULTILINE)) == [
        str(port) for port in range(1000, 1020)
    ]
    assert "203.0.113.7" in other.bans()


def test_a_member_added_by_hand_without_timeout_is_a_long_ban_and_an_exception_is_none(
    firewall: IptablesFirewall,
) -> None:
    run("ipset", "add", "pinban4", "203.0.113.7", "timeout", "0")
    run("ipset", "add", "pinban4", "203.0.113.8", "timeout", "100", "nomatch")
    assert firewall.bans() == {Network("203.0.113.7"): 2_147_483_000}


def test_with_reject_the_rules_say_so_and_another_answer_is_mended(rp: str) -> None:
    firewall = IptablesFirewall(action="reject", protocol="all", ports="all")
    firewall.install()
    standing = {tool: rules(tool, "pinban") for tool in TOOLS}
    assert [re.search(" -j .*", rule)[0] for rule in standing[TOOLS[0]]] == [  # type: ignore[index]
        " -j REJECT --reject-with tcp-reset",
        " -j REJECT --reject-with icmp-port-unreachable",
        " -j RETURN",
        " -j RETURN",
        " -j DROP",
    ]
    second = standing[TOOLS[0]][1].removeprefix("-A pinban ").replace("icmp-port", "icmp-host")
    run(TOOLS[0], "-R", "pinban", "2", *second.split())
    assert firewall.install() == ["IPv4 rules"]
    assert {tool: rules(tool, "pinban") for tool in TOOLS} == standing
    assert IptablesFirewall().install() == ["set pinban-ports", "IPv4 rules", "IPv6 rules"]
    assert everything() == ALL_STANDING


def test_disarm_leaves_nothing_of_ours_and_all_of_others(firewall: IptablesFirewall) -> None:
    run("ipset", "create", "theirs", "hash:ip")
    run(TOOLS[0], "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP")
    firewall.apply(Plan({Network("203.0.113.7"): 300_000}, frozenset()))
    firewall.remember_ledger("0123456789abcdef")
    run(TOOLS[1], "-A", "FORWARD", "-j", "pinban")
    firewall.disarm()
    assert everything() == ["-A INPUT -s 192.0.2.1/32 -j DROP", "theirs"]
    assert "pinban" not in "".join(run(tool + "-save") for tool in TOOLS)


@pytest.mark.parametrize("half", ["{0} -F; {0} -X", "{0} -F; ipset destroy pinban4", "{1} -D INPUT 1", "{0} -F pinban"])
def test_disarm_removes_what_is_left_of_us(firewall: IptablesFirewall, half: str) -> None:
    run("sh", "-ec", half.format(*TOOLS))
    firewall.disarm()
    assert everything() == []


@pytest.mark.parametrize(
    "make",
    [
        "pinban4 hash:ip timeout 0",
        "pinban4 hash:net family inet6 timeout 0 maxelem 262144",
        "pinban6 hash:net family inet6 maxelem 262144",
        "pinban6 list:set",
    ],
)
def test_a_set_of_another_type_is_refused_with_the_remedy(rp: str, make: str) -> None:
    run("ipset", "create", *make.split())
    with pytest.raises(FirewallError, match="another type; destroy it"):
        IptablesFirewall().install()


def test_a_set_that_stands_is_adopted_with_its_members(rp: str) -> None:
    run("sh", "-c", "ipset create pinban4 hash:net family inet timeout 0 maxelem 300000")
    run("ipset", "add", "pinban4", "203.0.113.7", "timeout", "100")
    firewall = IptablesFirewall()
    firewall.install()
    assert firewall.bans().keys() == {"203.0.113.7"}


def test_a_chain_that_does_not_exist_is_an_error_by_name_and_the_others_are_closed(rp: str) -> None:
    firewall = IptablesFirewall(chains=("DOCKER-USER", "INPUT"))
    for _ in range(2):
        with pytest.raises(FirewallError, match=r"DOCKER-USER does not exist.*\[enforcer\] chains"):
            firewall.install()
    assert everything() == ALL_STANDING
    for tool in TOOLS:
        run(tool, "-N", "DOCKER-USER")
    assert firewall.install() == ["IPv4 jump from DOCKER-USER", "IPv6 jump from DOCKER-USER"]


def test_a_chain_that_only_ipv6_lacks_is_a_warning_once(rp: str, caplog: pytest.LogCaptureFixture) -> None:
    run(TOOLS[0], "-N", "DOCKER-USER")
    firewall = IptablesFirewall(chains=("INPUT", "DOCKER-USER"))
    assert firewall.install()
    assert firewall.install() == []
    assert rules(TOOLS[0], "DOCKER-USER") == ["-A DOCKER-USER -j pinban"]
    assert rules(TOOLS[1], "INPUT") == ["-A INPUT -j pinban"]
    assert [r.message for r in caplog.records if "DOCKER-USER" in r.message and r.levelno == logging.WARNING] == [
        "chain DOCKER-USER does not exist in the IPv6 filter table; IPv6 packets that would pass it are not filtered"
    ]


def test_a_host_without_ipv6_gets_ipv4_rules_one_warning_and_keeps_ipv6_bans_for_later(
    rp: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.setattr(iptables, "_IPV6_ADDRESSES", tmp_path / "if_inet6")
    firewall = IptablesFirewall()
    firewall.install()
    assert firewall.install() == []
    firewall.apply(Plan({Network("2001:db8:1:2::/64"): 300_000}, frozenset()))
    assert len(firewall.bans()) == 1
    assert (len(rules(TOOLS[0])), rules(TOOLS[1])) == (4, [])
    assert len(caplog.records) == 1
    firewall.disarm()
    assert everything() == []


def test_without_the_right_to_it_the_error_says_whom_to_run_as(rp: str) -> None:
    program = (
        "from enforcer.firewall.iptables import IptablesFirewall as F; from shared.errors import FirewallError\n"
        "for verb in (F().install, F().bans, F().disarm):\n"
        "    try: verb()\n"
        "    except FirewallError as error: print(error)\n"
    )
    without = ["setpriv", "--bounding-set=-net_admin,-net_raw", "--inh-caps=-net_admin,-net_raw"]
    told = run(*without, sys.executable, "-c", program).splitlines()
    assert len(told) == 3
    assert all("root or with CAP_NET_ADMIN" in line for line in told)


BAD_SETTINGS: list[dict[str, Any]] = [
    {"prefix": "-x"},
    {"prefix": "fifteen-letters"},
    {"chains": ()},
    {"chains": ("pinban",)},
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
        IptablesFirewall(**bad)


WRITER = """
import subprocess, sys
for number in range(int(sys.argv[1])):
    rule = ["FORWARD", "-s", f"10.0.0.{number}", "-j", "ACCEPT"]
    done = subprocess.run(["iptables-legacy", "-w", "20", "-A", *rule], stderr=subprocess.DEVNULL)
    if done.returncode == 0:
        print(f"-A FORWARD -s 10.0.0.{number}/32 -j ACCEPT", flush=True)
"""


@pytest.mark.row(22)
@pytest.mark.parametrize("locks", [True, False], ids=["with our lock", "with none"])
def test_another_writer_costs_nobody_a_rule(rp: str, tmp_path: Path, locks: bool) -> None:
    firewall = IptablesFirewall()
    environment = dict(os.environ) | ({} if locks else {"XTABLES_LOCKFILE": str(tmp_path / "another.lock")})
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, "150"], stdout=subprocess.PIPE, text=True, env=environment
    ) as writer:
        while writer.poll() is None:
            assert firewall.install()
            firewall.disarm()
        assert writer.stdout is not None
        theirs = writer.stdout.read().splitlines()
    firewall.install()
    assert len(theirs) == 150 if locks else theirs
    assert rules(TOOLS[0], "FORWARD") == theirs
    assert [line for line in everything() if line not in theirs] == ALL_STANDING


@pytest.mark.row(22)
def test_a_held_lock_is_waited_for(firewall: IptablesFirewall, tmp_path: Path) -> None:
    run(TOOLS[0], "-F")
    released = tmp_path / "released"
    holder = ["flock", "/run/xtables.lock", "sh", "-c", f"echo held; sleep 1; touch {released}"]
    with subprocess.Popen(holder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert firewall.install()
        assert released.exists()
    assert everything() == ALL_STANDING
