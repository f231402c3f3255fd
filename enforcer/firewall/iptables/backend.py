"""The backend iptables: puts together the sets and the rules that drop their members. Does not import iptc.

sets (ipset)  <-  rules in a chain of our own in the legacy filter tables  <-  a jump, the first rule of INPUT and so on
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
from enforcer.firewall.port import Capacity, check_scope
from enforcer.reconcile import Plan
from enforcer.xtables import shape_of
from shared.addresses import Network
from shared.errors import FirewallError

#: How long enforcer.xtables may take, s: twice what its lock and its retries take at most for both families.
RULES_S = 60

#: 14 characters at most: the name of the marker has 31, and "@" and the 16 digits of an epoch are part of it.
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,13}")

#: As this thread sees it: a thread may be in another network namespace than its process.
_IPV6_ADDRESSES = Path("/proc/thread-self/net/if_inet6")

_log = logging.getLogger("pinban.enforcer")


def load_modules() -> None:
    """Load the kernel modules that the rules need, if this process may: libiptc does not make the kernel load them."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["modprobe", "-aq", "ip_tables", "ip6_tables", "iptable_filter", "ip6table_filter", "ip_set", "xt_set"],
            env={**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"},
            capture_output=True,
            timeout=RULES_S,
            check=False,
        )


class IptablesFirewall:
    """Implements Firewall with ipset and iptables-legacy. Only one thread at a time may call `apply`.

    Rules in the chain `<prefix>` drop packets from a member to the ports and from the ports to a member. With the
    action "reject" they answer the packets from a member with a TCP reset or an ICMP error. The first rule of every
    chain in `chains` jumps to this chain, and so does that of OUTPUT if INPUT is one of them.

    A host without IPv6 gets no IPv6 rules, and one warning. IPv6 bans are still kept in their set; when the host gets
    IPv6, the next install makes the rules for them.
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
        self._shapes: dict[int, bytes] = {}  #: by family: of the tables as they were read back

    @property
    def name(self) -> str:
        """The backend's name in [enforcer] backend."""
        return "iptables"

    def install(self) -> Sequence[str]:
        """Make or repair sets, chain, rules and jumps, each table in one commit; returns what was made or repaired."""
        made = [*self._sets.create(), *self._ports.create()]
        return [*made, *self._rules("install")]

    def members(self) -> Iterator[tuple[Network, int]]:
        """The members of both sets, each with its milliseconds left; FirewallError if a set is missing."""
        return self._sets.members()

    def bans(self) -> dict[Network, int]:
        """All `members` at once."""
        return dict(self.members())

    def capacity(self) -> Capacity:
        """How full the fuller set is, and whether anybody edited the tables; FirewallError if a set is missing."""
        disturbed = any(now != left for family, left in self._shapes.items() if left and (now := shape_of(family)))
        return replace(self._sets.capacity(), disturbed=disturbed)

    def enlarge(self) -> Sequence[str]:
        """Replace sets by larger ones that have the same members, where that is needed."""
        return self._sets.enlarge()

    def apply(self, plan: Plan) -> int:
        """Make the change and have the kernel acknowledge it; FirewallError if a set is missing.

        Returns how many bans did not fit in a set that may not grow.
        """
        return self._sets.change(plan.add, plan.remove)

    def ledger(self) -> str | None:
        """The epoch in the name of the marker."""
        return self._sets.ledger()

    def remember_ledger(self, epoch: str) -> None:
        """Make a marker with this epoch in its name."""
        self._sets.remember_ledger(epoch)

    def disarm(self) -> None:
        """Remove jumps, rules and chain, and then the sets: the kernel keeps a set that a rule refers to."""
        self._rules("disarm")
        self._sets.close()
        self._sets.destroy()
        self._ports.destroy()

    def close(self) -> None:
        """Close the socket that changes go through; the kernel goes on dropping."""
        self._sets.close()

    def _rules(self, verb: str) -> list[str]:
        """Run enforcer.xtables, and keep the shapes of the tables that it left; returns what it made or repaired."""
        request = {**self._request, "verb": verb, "families": self._families()}
        command = [sys.executable, "-P", "-W", "ignore", "-m", "enforcer.xtables"]
        here = str(Path(enforcer.__path__[0]).parent)
        try:
            done = subprocess.run(
                command,
                input=json.dumps(request),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=RULES_S,
                env={**os.environ, "PYTHONPATH": here},
                check=False,
            )
            reply = json.loads(done.stdout) if done.returncode == 0 else {}
            if not isinstance(reply, dict):
                raise ValueError(f"it printed {done.stdout[:64]!r}")
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise FirewallError(f"enforcer.xtables failed ({error}); look at the host's load and dmesg") from error
        if "mended" not in reply:
            last_line = (done.stderr.strip().splitlines() or ["no output"])[-1]
            raise FirewallError(
                reply.get("error")
                or f"enforcer.xtables, which writes iptables rules, ended with status {done.returncode} ({last_line});"
                " try iptables-legacy -S, which uses the same library"
            )
        for warning in reply["warnings"]:
            self._warn(warning)
        self._shapes = {int(family): bytes.fromhex(told) for family, told in reply["shapes"].items()}
        return list(reply["mended"])

    def _families(self) -> list[int]:
        if _IPV6_ADDRESSES.exists():
            return [4, 6]
        self._warn("this host has no IPv6; rules are made for IPv4 only")
        return [4]

    def _warn(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning("%s", text)
