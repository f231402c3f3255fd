"""What goes wrong on the way to the kernel leaves the firewall as a FirewallError that names cause and remedy."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

from enforcer.firewall.iptables.kernel import IpSet
from enforcer.firewall.netlink import Netlink, RefusedError
from enforcer.firewall.nftables import kernel as nft
from tests.netfilter.conftest import run

WITHOUT_FILES = """
import resource, sys
from enforcer.firewall import IptablesFirewall, NftablesFirewall, NftWatch, iptables_traces, nftables_traces
from enforcer.reconcile import Plan
from shared.errors import FirewallError

firewall = {"iptables": IptablesFirewall, "nftables": NftablesFirewall}[sys.argv[1]]()
firewall.install()
resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
plan = Plan({"203.0.113.7": 300_000}, frozenset())
many = Plan({f"10.0.0.{n}": 300_000 for n in range(200)}, frozenset())
verbs = {
    "install": firewall.install,
    "bans": firewall.bans,
    "capacity": firewall.capacity,
    "apply one": lambda: firewall.apply(plan),
    "apply many": lambda: firewall.apply(many),
    "ledger": firewall.ledger,
    "remember": lambda: firewall.remember_ledger("0123456789abcdef"),
    "disarm": firewall.disarm,
    "traces of iptables": lambda: iptables_traces("pinban"),
    "traces of nftables": lambda: nftables_traces("pinban"),
}
if sys.argv[1] == "nftables":
    verbs["watch"] = lambda: NftWatch(firewall, print)
for name, verb in verbs.items():
    try:
        verb()
        print(f"{name}: no error")
    except FirewallError as error:
        print(f"{name}: {error} (from {type(error.__cause__).__name__})")
"""


def test_without_a_file_to_open_every_verb_says_so(rp: str, backend: str) -> None:
    told = dict(line.split(": ", 1) for line in run(sys.executable, "-c", WITHOUT_FILES, backend).splitlines())
    assert len(told) == 10 + (backend == "nftables")
    for verb, line in told.items():
        assert "Too many open files" in line, verb
        assert line.endswith("(from OSError)"), verb
        if verb != "disarm":  # which starts a program first
            assert "raise the limit of open files" in line, verb


TALKS: dict[str, tuple[type[Netlink], Callable[..., object]]] = {
    "ipset, a change": (IpSet, lambda kernel: kernel.destroy("pinban4")),
    "ipset, a look": (IpSet, lambda kernel: kernel.names()),
    "nftables, a change": (nft.NfTables, lambda kernel: kernel.commit([(nft.DEL_TABLE, b"")])),
    "nftables, a look": (nft.NfTables, lambda kernel: list(kernel.look(nft.GET_TABLE))),
    "nftables, the generation": (nft.NfTables, lambda kernel: kernel.generation()),
}


@pytest.mark.parametrize("talk", TALKS)
def test_a_socket_that_breaks_is_an_error_of_the_firewall(rp: str, talk: str) -> None:
    kind, say = TALKS[talk]
    with kind() as kernel, open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), kernel._socket.fileno())
        with pytest.raises(RefusedError, match="non-socket; look at") as caught:
            say(kernel)
    assert isinstance(caught.value.__cause__, OSError)
