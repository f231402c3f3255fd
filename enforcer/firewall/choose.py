"""Which backend suits this host, and what another one left behind. Looks and decides; changes only in `hand_over`.

What the host itself uses is what its administrators look at: rules of pinban belong beside theirs.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from enforcer.firewall import netlink as nl
from enforcer.firewall.iptables import set_names
from enforcer.firewall.nftables import Standing, hooks_of, read, tables_with_rules
from enforcer.firewall.port import Firewall
from enforcer.reconcile import Plan
from shared.errors import FirewallError

#: The tables that legacy iptables has in this thread's network namespace: to ask iptables-legacy would make them.
_LEGACY_TABLES = {tool: Path(f"/proc/thread-self/net/{file}") for tool, file in
                  (("iptables-legacy", "ip_tables_names"), ("ip6tables-legacy", "ip6_tables_names"))}  # fmt: skip

#: How long a tool may take to say what stands, s.
_LOOK_S = 10.0


#: What a kernel without ip_set or without nf_tables says to a question about it.
_NO_SUCH_SUBSYSTEM = (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Host:
    """What was found on this host. Texts say what is in the way, and are empty when nothing is."""

    no_iptables: str  #: why the backend iptables cannot work
    no_nftables: str  #: why the backend nftables cannot work
    legacy_rules: bool  #: whether others have rules in the legacy tables
    nft_tables: tuple[str, ...]  #: tables of nftables in which others have rules; iptables-nft's are among them


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend and, for the log and for `pinban status`, why."""

    backend: str
    why: str


def decide(host: Host) -> Choice:
    """The backend for `auto`; FirewallError when none can work. Pure.

    Nftables where iptables cannot work, or where nftables is all that the host uses; else iptables.
    """
    if host.no_iptables and host.no_nftables:
        raise FirewallError(f"no backend works here: iptables: {host.no_iptables}; nftables: {host.no_nftables}")
    if host.no_iptables:
        return Choice("nftables", host.no_iptables)
    if host.no_nftables:
        return Choice("iptables", host.no_nftables)
    if host.nft_tables and not host.legacy_rules:
        named = ", ".join(host.nft_tables[:3]) + (" and more" if len(host.nft_tables) > 3 else "")
        return Choice("nftables", f"this host has rules in nftables ({named}) and none in the legacy tables")
    if host.legacy_rules:
        both = ", and in nftables too" if host.nft_tables else ""
        return Choice("iptables", f"this host has rules in the legacy tables{both}")
    return Choice("iptables", "this host has no other rules, and the legacy tables and ipset work")


def look(prefix: str, chains: Sequence[str]) -> Host:
    """What this host has, without making tables where none are. FirewallError when looking is not allowed."""
    tables: tuple[str, ...] = ()
    no_nftables = "" if _found("nft") else "nft is not installed"
    try:
        hooks_of(chains)
        tables = tuple(sorted(tables_with_rules() - {f"inet {prefix}"}))
    except nl.RefusedError as error:
        no_nftables = no_nftables or str(error)
    except FirewallError as error:
        no_nftables = str(error)
    legacy = _legacy_rules(prefix)
    no_iptables = ""
    if find_spec("iptc") is None:
        no_iptables = "python-iptables is not installed"
    elif not _found("iptables-legacy"):
        no_iptables = "iptables-legacy is not installed"
    elif not legacy and (no_nftables or not tables):  # else these questions would make what they are about
        try:
            _output(["iptables-legacy", "-w", "-S"])
            set_names()
        except FirewallError as error:
            no_iptables = str(error)
    return Host(no_iptables, no_nftables, legacy, tables)


def iptables_traces(prefix: str) -> bool:
    """Whether sets or chains of the backend iptables stand; FirewallError when looking is not allowed."""
    try:
        names = set_names()
    except nl.RefusedError as error:
        if error.number not in _NO_SUCH_SUBSYSTEM:
            raise
        names = []
    if any(name in (f"{prefix}4", f"{prefix}6") or name.startswith(f"{prefix}@") for name in names):
        return True
    return any(f"-N {prefix}" in rules.splitlines() for rules in _legacy_rulesets().values())


def nftables_traces(prefix: str) -> bool:
    """Whether the table of the backend nftables stands; FirewallError when looking is not allowed."""
    try:
        return read(prefix) != Standing()
    except nl.RefusedError as error:
        if error.number not in _NO_SUCH_SUBSYSTEM:
            raise
        return False


def hand_over(old: Firewall, new: Firewall) -> int:
    """Take over the bans of another backend, then remove it; how many. `new` must be armed.

    A ledger out of reach would let everybody in until it returns, if the old bans went with the old backend. The same
    goes for the mark of the ledger that they agree with.
    """
    try:
        bans, epoch = old.bans(), old.ledger()
    except FirewallError:  # it is not whole; the ledger knows what should stand
        bans, epoch = {}, None
    standing = new.bans()
    taken = {network: left_ms for network, left_ms in bans.items() if network not in standing}
    new.apply(Plan(taken, frozenset()))
    if epoch is not None and new.ledger() is None and not standing:
        new.remember_ledger(epoch)
    old.disarm()
    old.close()
    return len(taken)


def _legacy_rules(prefix: str) -> bool:
    lines = [line for rules in _legacy_rulesets().values() for line in rules.splitlines() if line.startswith("-A")]
    return any(f" {prefix} " not in f"{line} " for line in lines)


def _legacy_rulesets() -> dict[str, str]:
    """The rules of every legacy table that is there."""
    found = {}
    for tool, file in _LEGACY_TABLES.items():
        try:
            tables = file.read_text(encoding="ascii").split()
        except OSError:
            continue
        if _found(tool):
            for table in tables:
                found[f"{tool} {table}"] = _output([tool, "-w", "-t", table, "-S"])
    return found


def _found(tool: str) -> str:
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or ""


def _output(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(
            [_found(command[0]), *command[1:]], capture_output=True, text=True, timeout=_LOOK_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"{command[0]} did not finish ({error}); look at the host's load and dmesg") from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split())[:200] or f"status {done.returncode}"
        raise FirewallError(f"{words}; run as root or with CAP_NET_ADMIN, if it is a matter of rights")
    return done.stdout
