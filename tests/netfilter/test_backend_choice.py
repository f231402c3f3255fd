"""Which backend `auto` takes, on hosts made for it, and how one backend takes over from the other."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from enforcer import main as enforcer_main
from enforcer.firewall.choose import Choice, Host, decide
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.firewall.port import Firewall
from enforcer.main import choose, disarm, replace_others
from enforcer.reconcile import Plan
from shared.addresses import Network
from shared.errors import FirewallError
from shared.settings.schema import Enforcer, Settings
from tests.netfilter.conftest import BACKENDS, run

V4, V6 = Network("203.0.113.7"), Network("2001:db8:1:2::/64")

LEGACY = "iptables-legacy -A FORWARD -s 192.0.2.1 -j DROP"
NFT = "nft add table ip filter; nft add chain ip filter c; nft add rule ip filter c accept"
IPTABLES_NFT = "iptables-nft -A INPUT -s 192.0.2.1 -j DROP"


def auto(chains: tuple[str, ...] = ("INPUT",)) -> Choice:
    return choose(Settings(enforcer=Enforcer(chains=chains)))


@pytest.mark.parametrize(
    ("made", "backend", "why"),
    [
        ("true", "iptables", "no other rules"),
        ("nft add table ip filter", "iptables", "no other rules"),
        (NFT, "nftables", "in nftables (ip filter) and none in the legacy"),
        (IPTABLES_NFT, "nftables", "in nftables (ip filter)"),
        (LEGACY, "iptables", "rules in the legacy tables"),
        (f"{LEGACY}; {NFT}", "iptables", "legacy tables, and in nftables too"),
    ],
)
def test_auto_takes_what_the_host_uses(rp: str, made: str, backend: str, why: str) -> None:
    run("sh", "-ec", made)
    chosen = auto()
    assert chosen.backend == backend
    assert why in chosen.why


@pytest.mark.parametrize("made", [NFT, LEGACY, "true"])
def test_auto_stays_with_its_choice_after_a_restart(rp: str, made: str) -> None:
    run("sh", "-ec", made)
    first = auto()
    firewall = BACKENDS[first.backend]()
    firewall.install()
    firewall.close()
    assert auto() == first


def test_looking_at_a_host_of_nftables_makes_no_legacy_table(rp: str) -> None:
    run("sh", "-ec", NFT)
    assert auto().backend == "nftables"
    assert Path("/proc/thread-self/net/ip_tables_names").read_text(encoding="ascii") == ""


def test_chains_that_are_no_hooks_are_for_iptables(rp: str) -> None:
    run("sh", "-ec", NFT)
    chosen = auto(("INPUT", "ufw-user-input"))
    assert chosen.backend == "iptables"
    assert "no hook for ufw-user-input" in chosen.why


@pytest.mark.parametrize(
    ("gone", "backend", "why"),
    [("iptables-legacy", "nftables", "iptables-legacy is not"), ("nft", "iptables", "nft is not installed")],
)
def test_a_tool_that_is_missing_decides(
    rp: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: str, backend: str, why: str
) -> None:
    monkeypatch.setattr("enforcer.firewall.choose._found", lambda tool: "" if tool == gone else f"/usr/sbin/{tool}")
    chosen = auto()
    assert chosen.backend == backend
    assert why in chosen.why


@pytest.mark.parametrize(
    ("host", "backend"),
    [
        (Host("no legacy tables in this kernel", "", False, ()), "nftables"),
        (Host("no legacy tables in this kernel", "", True, ()), "nftables"),
        (Host("", "no nf_tables in this kernel", False, ("ip filter",)), "iptables"),
    ],
)
def test_what_cannot_work_is_not_chosen_and_says_why(host: Host, backend: str) -> None:
    assert decide(host) == Choice(backend, "no legacy tables in this kernel" if host.no_iptables else host.no_nftables)


def test_when_nothing_works_it_says_why_of_both_and_never_enforces_nothing_silently() -> None:
    with pytest.raises(FirewallError, match="iptables: no ipset; nftables: no nft"):
        decide(Host("no ipset", "no nft", False, ()))


def test_a_setting_is_obeyed_without_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcer_main, "look", lambda *_: pytest.fail("looked"))
    for backend in ("iptables", "nftables", "dry-run"):
        assert choose(Settings(enforcer=Enforcer(backend=backend))).backend == backend


def traces() -> str:
    """All that names pinban in this kernel."""
    shown = (
        run("nft", "list", "ruleset")
        + run("ipset", "save")
        + run("iptables-legacy-save")
        + run("ip6tables-legacy-save")
    )
    return "\n".join(line for line in shown.splitlines() if "pinban" in line)


@pytest.mark.parametrize("old", BACKENDS)
def test_a_new_backend_takes_over_the_bans_before_the_old_one_goes(
    rp: str, make: Callable[..., Firewall], backend: str, old: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = BACKENDS[old]()
    before.install()
    before.apply(Plan({V4: 300_000, V6: 200_000}, frozenset()))
    before.remember_ledger("0123456789abcdef")
    before.close()
    new = make()
    new.install()
    caplog.set_level(logging.WARNING)
    replace_others(Settings(), new)
    assert new.bans().keys() == {V4, V6}
    assert 190_000 < new.bans()[V6] <= 200_000
    assert new.ledger() == "0123456789abcdef"
    assert list(new.install()) == []
    assert ("took over 2 bans" in caplog.text) == (old != backend)
    new.disarm()
    assert traces() == ""


def test_remains_that_are_not_whole_are_removed_all_the_same(
    rp: str, make: Callable[..., Firewall], backend: str
) -> None:
    for name, other in BACKENDS.items():
        firewall = other()
        firewall.install()
        firewall.close()
        if name == "iptables":
            run("sh", "-ec", "iptables-legacy -F; ipset flush pinban4; ip6tables-legacy -F; ipset destroy pinban6")
        else:
            run("sh", "-ec", "nft flush table inet pinban; nft delete set inet pinban v4_24")
    new = make()
    new.install()
    replace_others(Settings(), new)
    new.disarm()
    assert traces() == ""


def test_disarm_removes_what_any_backend_left(rp: str) -> None:
    for _ in range(2):
        for other in BACKENDS.values():
            firewall = other()
            firewall.install()
            firewall.close()
        disarm(Settings(), auto().backend)
        assert traces() == ""
        disarm(Settings(), auto().backend)


def test_dry_run_removes_nothing_unless_it_is_told_to_disarm(rp: str) -> None:
    """The setting may have come after the rules: who asks to disarm means what stands in the kernel."""
    firewall = BACKENDS["nftables"]()
    firewall.install()
    firewall.close()
    before = traces()
    replace_others(Settings(), DryRunFirewall())
    assert traces() == before
    disarm(Settings(), "dry-run")
    assert traces() == ""


def test_names_of_others_may_be_of_any_bytes(rp: str) -> None:
    """The kernel takes the name of a set and the comment of a rule as bytes, and they need not be UTF-8."""
    subprocess.run([b"ipset", b"create", b"\xe9t\xe9", b"hash:ip"], check=True)
    subprocess.run(
        [b"iptables-legacy", b"-A", b"INPUT", b"-m", b"comment", b"--comment", b"caf\xe9", b"-j", b"ACCEPT"], check=True
    )
    assert auto().backend == "iptables"
    firewall = BACKENDS["iptables"]()
    firewall.install()
    assert firewall.apply(Plan({Network("203.0.113.7"): 60_000}, frozenset())) == 0
    firewall.close()
    disarm(Settings(), "iptables")
    assert traces() == ""
