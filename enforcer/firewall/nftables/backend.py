"""The backend nftables: puts together the table's chains and rules, written by nft(8), and its sets of bans.

sets by prefix length  <-  rules in chains of the table `inet <prefix>`  <-  base chains, one at each netfilter hook
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from enforcer.firewall import netlink as nl
from enforcer.firewall.networks import checked, key_of
from enforcer.firewall.nftables import kernel as nft
from enforcer.firewall.nftables.elements import set_name
from enforcer.firewall.nftables.ruleset import Look, Standing, hooks_of, read
from enforcer.firewall.nftables.sets import NftSets
from enforcer.firewall.port import Capacity, check_scope
from enforcer.reconcile import Plan
from shared.addresses import Network
from shared.errors import FirewallError

#: How long one run of nft may take, s. It writes thirty rules and reads no set.
RUN_S = 30.0

#: How often to try to write the rules: a try fails when another program changes the ruleset at the same moment.
ATTEMPTS = 10

#: The sets that the table always has: of single addresses, and of networks as large as clients are counted and banned.
NEEDED = frozenset({(4, 32), (4, 24), (6, 128), (6, 64)})

_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,30}")
_ECHOED = re.compile(r"^add rule inet \S+ (\S+) .*# handle (\d+)$", re.MULTILINE)


class NftablesFirewall:
    """Implements Firewall with a table of our own. Only one thread at a time may call `apply`.

    Its rules drop or reject packets from a member to the ports and drop packets from the ports to a member, at the
    hooks that belong to `chains`. No one else may use the table: other rules in its chains are removed.
    """

    def __init__(
        self,
        prefix: str = "pinban",
        chains: Sequence[str] = ("INPUT",),
        ports: Sequence[int] | Literal["all"] = (80, 443),
        protocol: str = "tcp",
        action: str = "drop",
        maxelem: int = 262_144,
        maxelem_limit: int = 4_194_304,
    ) -> None:
        """`maxelem`, the size of a new set, has no use here: these sets grow by themselves."""
        if not _PREFIX.fullmatch(prefix):
            raise FirewallError(f"[enforcer] prefix {prefix!r} cannot name a table; use letters and digits")
        if not chains:
            raise FirewallError("[enforcer] chains is empty; name one such as INPUT")
        check_scope(ports, protocol, action)
        every: tuple[int, ...] | Literal["all"] = "all" if ports == "all" else tuple(sorted(set(ports)))
        self._look = Look(prefix, hooks_of(chains), every, protocol, action)
        self._sets = NftSets(prefix, sorted(NEEDED), max(maxelem, maxelem_limit))
        self._left: Standing | None = None  #: the table as our last change left it
        self._converging = threading.Lock()

    @property
    def name(self) -> str:
        """The backend's name in [enforcer] backend."""
        return "nftables"

    @property
    def table(self) -> str:
        """The table's name; its family is inet."""
        return self._look.table

    @property
    def port(self) -> int:
        """The netlink port of the socket that changes bans."""
        return self._sets.port

    def install(self) -> Sequence[str]:
        """Make or repair table, sets, chains and rules in one transaction; returns what was made or repaired."""
        return self._converge(frozenset())

    def members(self) -> Iterable[tuple[Network, int]]:
        """The members of all sets, each with its milliseconds left; FirewallError if a set is missing."""
        return self._sets.members()

    def bans(self) -> dict[Network, int]:
        """All `members` at once."""
        return dict(self.members())

    def capacity(self) -> Capacity:
        """How many members the sets have, how many they may have, and whether another program changed the rules."""
        capacity = self._sets.capacity()
        left = self._left
        return replace(capacity, disturbed=left is not None and read(self.table) != left)

    def enlarge(self) -> Sequence[str]:
        """The kernel enlarges its sets by itself."""
        return []

    def apply(self, plan: Plan) -> int:
        """Make the change and have the kernel acknowledge it; FirewallError if a set is missing.

        The first network of a prefix length also makes the set and the rules for this length.
        """
        lengths = {key_of(checked(network))[:2] for network in (*plan.add, *plan.remove)}
        if self._left is None:
            raise FirewallError("nothing is installed; the enforcer installs it at its next check")
        if not lengths <= self._left.bans:
            self._converge(frozenset(lengths))
        return self._sets.change(plan.add, plan.remove)

    def ledger(self) -> str | None:
        """The epoch in the name of the marker."""
        return self._sets.ledger()

    def remember_ledger(self, epoch: str) -> None:
        """Make a marker with this epoch in its name."""
        self._sets.remember_ledger(epoch)

    def disarm(self) -> None:
        """Remove the table and all that is in it."""
        with self._converging, nft.NfTables() as kernel:
            self._left = None
            try:
                kernel.commit([(nft.DEL_TABLE, nl.text(nft.TABLE, self.table))])
            except nl.RefusedError as error:
                if error.number != errno.ENOENT:
                    raise
        self._sets.close()

    def close(self) -> None:
        """Close the socket that makes changes; the kernel goes on dropping."""
        self._sets.close()

    def _converge(self, more: frozenset[tuple[int, int]]) -> list[str]:
        """Repair the table, and add sets for the families and lengths `more`; returns what was made or repaired."""
        trouble: FirewallError | None = None
        with self._converging:
            for attempt in range(ATTEMPTS):
                time.sleep(attempt * (10 + os.getpid() % 10) / 1000)  # two that collided wait for different times
                try:
                    return self._mend(more)
                except FirewallError as error:
                    trouble = error
        assert trouble is not None
        raise trouble

    def _mend(self, more: frozenset[tuple[int, int]]) -> list[str]:
        before, woken = read(self.table), []
        if before.dormant:  # in such a table no base chain can be put at its hook
            _write(f"add table inet {self.table}\n")
            before, woken = read(self.table), [f"table {self.table} (was dormant)"]
        bans = NEEDED | more | before.bans
        if before == self._left and before.bans == bans:
            return woken
        handles = _write(self._look.text(bans, before))
        after = read(self.table)
        whole = after.rules == handles and after.bans >= bans and after.chains.keys() == set(self._look.chains)
        if not whole or after.dormant or not after.accepts:
            raise FirewallError(
                f"nftables: table {self.table} did not stay as it was made; stop the other program that edits it"
            )
        self._left = after
        return woken + _mended(self.table, before, after, more)


def _write(text: str) -> dict[str, tuple[int, ...]]:
    """Run one transaction with nft; returns the handles that the kernel gave to its rules, by chain and in order."""
    found = shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None:
        raise FirewallError("nft is not found; install the package nftables")
    command = [found, "--echo", "--handle", "-f", "-"]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, errors="replace", timeout=RUN_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FirewallError(f"nft did not finish ({error}); look at the host's load and dmesg") from error
    if done.returncode != 0:
        words = " ".join(done.stderr.split())[:300] or f"status {done.returncode}"
        remedy = "run as root or with CAP_NET_ADMIN" if "not permitted" in words else "try nft list ruleset"
        raise FirewallError(f"nft: {words}; {remedy}")
    handles: dict[str, tuple[int, ...]] = {}
    for chain, handle in _ECHOED.findall(done.stdout):
        handles[chain] = (*handles.get(chain, ()), int(handle))
    return handles


def _mended(table: str, before: Standing, after: Standing, asked: frozenset[tuple[int, int]]) -> list[str]:
    """What the repair changed, a phrase each."""
    if not before.table[0]:
        return [f"table {table}"]
    done = [f"set {set_name(*each)}" for each in sorted(after.bans - before.bans - asked)]
    for name in sorted(before.chains.keys() | after.chains.keys()):
        if before.chains.get(name, (b"",))[1:] != after.chains.get(name, (b"",))[1:]:
            done.append(f"chain {name}")
        elif before.contents.get(name) != after.contents.get(name):
            done.append(f"rules of chain {name}")
    return done
