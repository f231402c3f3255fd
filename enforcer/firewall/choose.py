"""Chooses the backend for this host, and finds what another backend left behind. Only `hand_over` changes anything.

Administrators look at the tables that the host uses already, so pinban's rules belong there.
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

#: The kernel's lists of legacy tables in this thread's network namespace. Running iptables-legacy would create tables.
_LEGACY_TABLES = {tool: Path(f"/proc/thread-self/net/{file}") for tool, file in
                  (("iptables-legacy", "ip_tables_names"), ("ip6tables-legacy", "ip6_tables_names"))}  # fmt: skip

#: How long a tool may take to list the rules, s.
_LOOK_S = 10.0


#: Errors of a kernel that has no ip_set or no nf_tables.
_NO_SUCH_SUBSYSTEM = (errno.EPROTONOSUPPORT, errno.EAFNOSUPPORT, errno.EINVAL)


@dataclass(frozen=True, slots=True)
class Host:
    """What this host has."""

    no_iptables: str  #: why the backend iptables cannot work; "" if it can
    no_nftables: str  #: why the backend nftables cannot work; "" if it can
    legacy_rules: bool  #: whether other programs have rules in the legacy tables
    nft_tables: tuple[str, ...]  #: tables of nftables with rules of other programs, also those of iptables-nft


@dataclass(frozen=True, slots=True)
class Choice:
    """A backend, and the reason for it, which the log and `pinban status` show."""

    backend: str
    why: str


def decide(host: Host) -> Choice:
    """The backend for `auto`; FirewallError when none can work. Pure.

    It is nftables if iptables cannot work, or if the host has rules in nftables and none in the legacy tables; else
    iptables.
    """
    if host.no_iptables and host.no_nftables:
        raise FirewallError(
            "no backend works on this host; make one of them work:"
            f" iptables: {host.no_iptables}; nftables: {host.no_nftables}"
        )
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
    """What this host has; creates no tables. FirewallError if this process has no permission to look."""
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
    elif not legacy and (no_nftables or not tables):  # else asking would create what it asks about
        try:
            _output(["iptables-legacy", "-w", "-S"])
            set_names()
        except FirewallError as error:
            no_iptables = str(error)
    return Host(no_iptables, no_nftables, legacy, tables)


def iptables_traces(prefix: str) -> bool:
    """Whether sets or chains of the backend iptables exist; FirewallError without permission to look."""
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
    """Whether the table of the backend nftables exists; FirewallError without permission to look."""
    try:
        return read(prefix) != Standing()
    except nl.RefusedError as error:
        if error.number not in _NO_SUCH_SUBSYSTEM:
            raise
        return False


def hand_over(old: Firewall, new: Firewall) -> int:
    """Copy the bans of the old backend to the new one, then remove the old one; returns how many were copied.

    `new` must be installed. Without the copy, an enforcer that cannot reach Redis would drop nobody until Redis is
    back. For the same reason the epoch of the ledger that these bans agree with is copied.
    """
    try:
        bans, epoch = old.bans(), old.ledger()
    except FirewallError:  # parts of the old backend are missing; the bans come from the ledger then
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
    """The rules of every legacy table that exists."""
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
            [_found(command[0]), *command[1:]],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_LOOK_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"{command[0]} did not finish ({error}); look at the host's load and dmesg") from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split())[:200] or f"status {done.returncode}"
        raise FirewallError(f"{words}; if it lacks permission, run as root or with CAP_NET_ADMIN")
    return done.stdout
