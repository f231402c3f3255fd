"""The ports that a ban closes, as a set in the kernel: a rule that asks a set has no limit on their number.

A `multiport` match would hold 15, and python-iptables cannot make one with iptables 1.8.11, which Debian 13 has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from enforcer.firewall.iptables.ipset_command import run
from shared.errors import FirewallError

_MEMBER = re.compile(r"^add \S+ (\d+)$", re.MULTILINE)


class PortSet:
    """The set `<prefix>-ports`. Every method raises FirewallError."""

    def __init__(self, prefix: str, ports: Iterable[int]) -> None:
        self.name = f"{prefix}-ports"
        self._ports = frozenset(ports)

    def create(self) -> list[str]:
        """Make the set hold these ports, no others; a phrase when that was not so. Never holds fewer meanwhile."""
        if self.name not in run("list", "-n").split():
            lines = [f"create {self.name} bitmap:port range 0-65535\n"]
            standing: frozenset[int] = frozenset()
        else:
            text = run("save", self.name)
            if not text.startswith(f"create {self.name} bitmap:port range 0-65535"):
                raise FirewallError(f"set {self.name} exists with another type; destroy it or set [enforcer] prefix")
            lines, standing = [], frozenset(int(port) for port in _MEMBER.findall(text))
        lines += [f"add {self.name} {port}\n" for port in sorted(self._ports - standing)]
        lines += [f"del {self.name} {port}\n" for port in sorted(standing - self._ports)]
        if lines:
            run("restore", "-exist", text="".join(lines))
        return [f"set {self.name}"] if lines else []

    def destroy(self) -> None:
        """Remove the set, if it stands."""
        if self.name in run("list", "-n").split():
            run("destroy", self.name)
