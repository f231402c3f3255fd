"""How large a set is, and replacing it by a larger one while rules refer to it. Does not know which sets there are.

The maxelem of a set is fixed when it is made. So a larger set is made beside it and filled with its members, and the
kernel swaps the two in one step: the rules then refer to the larger set.
"""

from __future__ import annotations

import errno
import time
from contextlib import suppress
from dataclasses import dataclass

from enforcer.firewall.iptables import kernel as ip
from enforcer.firewall.iptables.ipset_members import element, told_elements
from enforcer.firewall.netlink import RefusedError
from enforcer.firewall.port import CROWDED
from shared.errors import FirewallError

#: The name of a set that is being filled ends with this.
GROWING = "+"

#: How long to wait for others who read a set before the swap fails, s.
_READ_S = 10.0

#: Members for each bucket of a new hash. With fewer buckets the kernel would double the hash many times while it fills.
_PER_BUCKET = 2

#: The first revision of hash:net with counters.
_REVISION = 3


@dataclass(frozen=True, slots=True)
class Size:
    """A set of networks with timeouts."""

    family: int  #: 4 or 6
    entries: int  #: members that have not expired
    maxelem: int  #: the most it may have

    @property
    def fill(self) -> int:
        """Percent."""
        return 100 * self.entries // self.maxelem

    def wanted(self, least: int, limit: int, incoming: int = 0) -> int:
        """The size that it should have: `least`, doubled until the set is not crowded, but not above `limit`."""
        maxelem = max(self.maxelem, least)
        while maxelem < limit and 100 * (self.entries + incoming) > CROWDED * maxelem:
            maxelem = min(2 * maxelem, limit)
        return maxelem


def create(kernel: ip.IpSet, name: str, family: int, maxelem: int, members: int = 0) -> None:
    """Make a set that is going to have so many members."""
    hashsize = max(1024, 1 << (members // _PER_BUCKET).bit_length())
    options = ((ip.HASHSIZE, hashsize), (ip.MAXELEM, maxelem), (ip.TIMEOUT, 0), (ip.FLAGS, ip.WITH_COUNTERS))
    kernel.create(name, "hash:net", _REVISION, ip.PROTOCOLS[family], *(ip.number(*option) for option in options))


def size_of(kernel: ip.IpSet, name: str, family: int) -> Size:
    """Read the set's size; FirewallError when it is not such a set as `create` makes."""
    kind, protocol, told = kernel.header(name)
    if (kind, protocol) != ("hash:net", ip.PROTOCOLS[family]) or ip.TIMEOUT not in told:
        raise FirewallError(f"set {name} exists with another type; destroy it or set [enforcer] prefix")
    if ip.ENTRIES not in told:
        raise FirewallError(f"the kernel does not count the entries of set {name}; use a newer kernel")
    return Size(family, int.from_bytes(told[ip.ENTRIES], "big"), int.from_bytes(told[ip.MAXELEM], "big"))


def grow(name: str, size: Size, maxelem: int) -> None:
    """Replace the set by one that holds up to `maxelem` members, with all members of the old one.

    The set must not be changed meanwhile. A million members take some seconds.
    """
    larger = name + GROWING
    with ip.IpSet() as kernel:
        remove_leftover(kernel, name)
        try:
            create(kernel, larger, size.family, maxelem, 2 * size.entries)
            _fill(kernel, larger, name, size.family)
            _swap(kernel, name, larger)
        finally:
            remove_leftover(kernel, name)


def remove_leftover(kernel: ip.IpSet, name: str) -> None:
    """Destroy the set that growing left over; if another program reads it now, it stays until the next call."""
    if name + GROWING in kernel.names():
        with suppress(FirewallError):
            kernel.destroy(name + GROWING)


def _fill(kernel: ip.IpSet, larger: str, name: str, family: int) -> None:
    """Copy all members. The kernel makes each answer while the one before is read: `told_at` is when that began."""
    with ip.IpSet() as told:
        told_at = asked_at = time.monotonic()
        for data in told.elements(name):
            _put(kernel, larger, data, family, told_at)
            told_at, asked_at = asked_at, time.monotonic()


def _put(kernel: ip.IpSet, larger: str, data: bytes, family: int, told_at: float) -> None:
    """Copy members that the kernel listed at `told_at` or later, s of the monotonic clock, so that none lasts too long.

    The time since then is taken off each timeout, in whole seconds, rounded up. A member with less than a second left
    is listed with one, so it is left out. If more time than that has passed when they are in, they are put in again.
    """
    passed_s, late = 0, True
    while late:
        passed_s = int(time.monotonic() - told_at) + 1
        put, over = [], []
        for key, length, left_s, more in told_elements(data, family):
            if left_s == 0 or left_s > passed_s:
                put.append(element(key, length, left_s and left_s - passed_s, more))
            else:
                over.append(element(key, length))
        kernel.change(ip.ADD, larger, put)
        kernel.change(ip.DELETE, larger, over)  # put in before, if this is the second time
        late = time.monotonic() - told_at > passed_s


def _swap(kernel: ip.IpSet, name: str, larger: str) -> None:
    """Swap the two sets as soon as nobody reads them."""
    until = time.monotonic() + _READ_S
    while True:
        try:
            return kernel.swap(name, larger)
        except RefusedError as error:
            if error.number != errno.EBUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)
