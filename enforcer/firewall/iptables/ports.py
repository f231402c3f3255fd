"""The ports that a ban closes, as a set in the kernel, because a set takes any number of ports.

A `multiport` match takes 15, and python-iptables cannot make one with iptables 1.8.11, which Debian 13 has.
"""

from __future__ import annotations

from collections.abc import Iterable

from enforcer.firewall import netlink as nl
from enforcer.firewall.iptables import kernel as ip
from shared.errors import FirewallError

#: The range of the set: every port.
_RANGE = {ip.PORT: 0, ip.PORT_TO: 65535}


class PortSet:
    """The set `<prefix>-ports`. Every method raises FirewallError."""

    def __init__(self, prefix: str, ports: Iterable[int]) -> None:
        self.name = f"{prefix}-ports"
        self._ports = frozenset(ports)

    def create(self) -> list[str]:
        """Make the set hold these ports and no others; returns a phrase if that changed anything.

        Ports are added before others are removed, so that none is open meanwhile.
        """
        with ip.IpSet() as kernel:
            made = self.name not in kernel.names()
            if made:
                kernel.create(self.name, "bitmap:port", 0, 0, *(ip.port(*each) for each in _RANGE.items()))
            standing = self._standing(kernel)
            kernel.change(ip.ADD, self.name, map(_element, sorted(self._ports - standing)))
            kernel.change(ip.DELETE, self.name, map(_element, sorted(standing - self._ports)))
        return [f"set {self.name}"] if made or standing != self._ports else []

    def destroy(self) -> None:
        """Remove the set, if it exists."""
        with ip.IpSet() as kernel:
            if self.name in kernel.names():
                kernel.destroy(self.name)

    def _standing(self, kernel: ip.IpSet) -> frozenset[int]:
        kind, _, told = kernel.header(self.name)
        if kind != "bitmap:port" or {each: int.from_bytes(told[each], "big") for each in _RANGE} != _RANGE:
            raise FirewallError(f"set {self.name} exists with another type; destroy it or set [enforcer] prefix")
        found = (nl.attributes(each) for data in kernel.elements(self.name) for each in nl.nests(data))
        return frozenset(int.from_bytes(each[ip.PORT], "big") for each in found)


def _element(port: int) -> bytes:
    return nl.nest(ip.ELEMENT, ip.port(ip.PORT, port))
