"""The backend iptables: puts together the sets and the rules that drop their members. Runs no iptc itself.

sets (ipset)  <-  rules in an own chain of the legacy filter tables  <-  a jump from the first place of each hook
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import enforcer
from enforcer.firewall.iptables.ipset import Ipsets
from enforcer.firewall.iptables.ports import PortSet
from enforcer.firewall.iptables.shape import shape
from enforcer.firewall.port import Capacity, check_scope
from enforcer.reconcile import Plan
from shared.addresses import Network
from shared.errors import FirewallError

#: How long the program of rules may take: its lock and its retries for both families, twice over, s.
RULES_S = 60

#: So long that the marker's name holds a whole epoch: 31 characters less "@" and 16 digits.
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,13}")

#: This thread's view: it may live in another network namespace than its process.
_IPV6_ADDRESSES = Path("/proc/thread-self/net/if_inet6")

_log = logging.getLogger("pinban.enforcer")


def load_modules() -> None:
    """Load what the rules need, if it is missing and this process may: libiptc does not have the kernel load it."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["modprobe", "-aq", "ip_tables", "ip6_tables", "iptable_filter", "ip6table_filter", "ip_set", "xt_set"],
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
            capture_output=True,
            timeout=RULES_S,
            check=False,
        )


class IptablesFirewall:
    """Implements Firewall with ipset and iptables-legacy. Only `apply` is for one thread at a time.

    In chain `<prefix>`, packets from a member to the ports and from the ports to a member are dropped; with the action
    "reject" the former are refused, by a TCP reset or an ICMP error. Jumps go from the first place of every chain of
    `chains`, and of OUTPUT if INPUT is one of them. On a host without IPv6 there are no IPv6 rules, with one warning;
    IPv6 bans are kept in their set all the same, and hold from the install after IPv6 has come.
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
        if not _PREFIX.fullmatch(prefix):
            raise FirewallError(f"[enforcer] prefix {prefix!r} cannot name sets; use up to 14 letters and digits")
        if not chains or prefix in chains:
            raise FirewallError(f"[enforcer] chains {list(chains)} cannot jump to {prefix}; name one such as INPUT")
        check_scope(ports, protocol, action)
        self._sets = Ipsets(prefix, maxelem, maxelem_limit)
        self._ports = PortSet(prefix, () if ports == "all" else ports)
        self._chain = prefix
        self._request = {
            "chain": prefix,
            "set": {str(family): name for family, name in self._sets.names.items()},
            "chains": list(chains),
            "ports": None if ports == "all" else self._ports.name,
            "protocol": protocol,
            "action": action,
        }
        self._warned: set[str] = set()
        self._shapes: dict[int, bytes] = {}  #: of the tables, as install left them

    @property
    def name(self) -> str:
        """The backend's name in [enforcer] backend."""
        return "iptables"

    def install(self) -> Sequence[str]:
        """Make sets, chain, rules and jumps stand, each table in one commit; returns what was mended."""
        mended = [*self._sets.create(), *self._ports.create(), *self._rules("install")]
        self._shapes = {family: shape(family) for family in self._families()}
        return mended

    def members(self) -> Iterator[tuple[Network, int]]:
        """The members of both sets, each with its milliseconds left; FirewallError if a set is missing."""
        return self._sets.members()

    def bans(self) -> dict[Network, int]:
        """All `members` at once."""
        return dict(self.members())

    def capacity(self) -> Capacity:
        """How full the fuller set is, and whether anybody edited the tables; FirewallError if a set is missing."""
        disturbed = any(now != left for family, left in self._shapes.items() if left and (now := shape(family)))
        return replace(self._sets.capacity(), disturbed=disturbed)

    def enlarge(self) -> Sequence[str]:
        """Swap in larger sets, filled, where that is needed."""
        return self._sets.enlarge()

    def apply(self, plan: Plan) -> int:
        """Make the change and have the kernel acknowledge it; FirewallError if a set is missing.

        Returns how many bans did not fit in a set that may not grow.
        """
        return self._sets.change(plan.add, plan.remove)

    def ledger(self) -> str | None:
        """The epoch that the marker beside the sets is named after."""
        return self._sets.ledger()

    def remember_ledger(self, epoch: str) -> None:
        """Name the marker after this epoch."""
        self._sets.remember_ledger(epoch)

    def disarm(self) -> None:
        """Remove jumps, rules and chain, and then the sets, which the kernel keeps while a rule refers to them."""
        self._rules("disarm")
        self._sets.close()
        self._sets.destroy()
        self._ports.destroy()

    def close(self) -> None:
        """Close the socket that changes go through; the kernel goes on dropping."""
        self._sets.close()

    def _rules(self, verb: str) -> list[str]:
        """What the program of rules did."""
        request = {**self._request, "verb": verb, "families": self._families()}
        command = [sys.executable, "-P", "-W", "ignore", "-m", "enforcer.xtables"]
        here = str(Path(enforcer.__path__[0]).parent)
        try:
            done = subprocess.run(
                command,
                input=json.dumps(request),
                capture_output=True,
                text=True,
                timeout=RULES_S,
                env={**os.environ, "PYTHONPATH": here},
                check=False,
            )
            reply = json.loads(done.stdout) if done.returncode == 0 else {}
            if not isinstance(reply, dict):
                raise ValueError(f"it said {done.stdout[:64]!r}")
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise FirewallError(f"the program of rules failed ({error}); look at load and dmesg") from error
        if "mended" not in reply:
            last_words = (done.stderr.strip().splitlines() or ["without a word"])[-1]
            raise FirewallError(
                reply.get("error")
                or f"the program of iptables rules ended with status {done.returncode} ({last_words});"
                " try iptables-legacy -S, which uses the same library"
            )
        for warning in reply["warnings"]:
            self._warn(warning)
        return list(reply["mended"])

    def _families(self) -> list[int]:
        if _IPV6_ADDRESSES.exists():
            return [4, 6]
        self._warn("this host has no IPv6; only IPv4 is filtered")
        return [4]

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("%s", text)
