"""What another program changes in the moment when our rules are back is no part of what we take for ours."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from enforcer.firewall.iptables import backend as iptables
from enforcer.firewall.iptables.backend import IptablesFirewall
from enforcer.firewall.nftables import backend as nftables
from enforcer.firewall.port import Firewall
from tests.netfilter.conftest import BACKENDS, COMES_S, EchoServer, echoes, run

#: By backend: the module that starts the program which writes rules, and how others remove all rules.
WRITERS = {"iptables": (iptables, "iptables-legacy -F"), "nftables": (nftables, "nft flush ruleset")}

INTRUSIONS = {
    "ACCEPT before our jump": ("iptables", "iptables-legacy -I INPUT -j ACCEPT"),
    "ACCEPT before our IPv6 jump": ("iptables", "ip6tables-legacy -I OUTPUT -j ACCEPT"),
    "a rule that lets pass": ("iptables", "iptables-legacy -I pinban -j RETURN"),
    "all gone again": ("iptables", "iptables-legacy -F"),
    "accept in our chain": ("nftables", "nft insert rule inet pinban from_member accept"),
    "a table asleep": ("nftables", "nft 'add table inet pinban { flags dormant; }'"),
    "a policy that drops everybody": ("nftables", "nft 'add chain inet pinban input { policy drop; }'"),
    "a chain of theirs": (
        "nftables",
        "nft 'add chain inet pinban theirs { type filter hook input priority -20; policy drop; }'",
    ),
    "a table gone again": ("nftables", "nft flush ruleset"),
}


def standing() -> list[str]:
    """Our rules and the first of each hook, without counts."""
    hooks = [(tool, hook) for tool in ("iptables-legacy", "ip6tables-legacy") for hook in ("INPUT", "OUTPUT")]
    first = [run(tool, "-S", hook, "1") for tool, hook in hooks]
    own = [run(tool, "-S", "pinban") for tool, _ in hooks[::2]] if "-j pinban" in "".join(first) else []
    return [*first, *own, *sorted(run("nft", "-s", "list", "ruleset").splitlines())]


def once_after(real: Callable[..., Any], intrusion: str) -> Callable[..., Any]:
    """The real thing, and when it has done its work for the first time, the intrusion."""
    left = [intrusion]

    def done(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        if left:
            real(["sh", "-ec", left.pop()], check=True, capture_output=True)
        return result

    return done


def mends(firewall: Firewall, look: Callable[[], bool]) -> bool:
    """Whether the cheap look each second is enough to have all in its place again."""
    for _ in range(3):
        if look():
            return True
        if firewall.capacity().disturbed:
            firewall.install()
    return False


@pytest.mark.parametrize("intrusion", INTRUSIONS)
def test_what_others_change_as_soon_as_the_rules_are_back_is_seen(
    rp: str, intrusion: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, command = INTRUSIONS[intrusion]
    module, flush = WRITERS[name]
    with closing(BACKENDS[name]()) as firewall:
        firewall.install()
        before = standing()
        run(*flush.split())
        with monkeypatch.context() as patch:
            patch.setattr(module.subprocess, "run", once_after(subprocess.run, command))
            firewall.install()
        assert mends(firewall, lambda: standing() == before), "\n".join(standing())
        assert not firewall.capacity().disturbed


@pytest.mark.parametrize(("tool", "hook"), [("iptables-legacy", "INPUT"), ("ip6tables-legacy", "OUTPUT")])
def test_a_script_that_deletes_its_rule_and_inserts_it_again_is_seen(rp: str, tool: str, hook: str) -> None:
    """The table is as long as before. Packets that pass our rules meanwhile are no change."""
    with closing(IptablesFirewall()) as firewall:
        firewall.install()
        run(tool, "-A", hook, "-j", "ACCEPT")
        assert firewall.capacity().disturbed
        assert not firewall.install()
        before = standing()
        with closing(EchoServer((80,))), socket.create_connection(("::1" if "6" in tool else "127.0.0.1", 80)) as line:
            assert echoes(line, COMES_S)
        assert not firewall.capacity().disturbed
        run(tool, "-D", hook, "-j", "ACCEPT")
        run(tool, "-I", hook, "-j", "ACCEPT")
        assert mends(firewall, lambda: standing() == before), "\n".join(standing())
