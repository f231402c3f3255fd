"""How large a set is, and putting a larger one in its place while rules refer to it. Knows neither bans nor prefixes.

A set's maxelem is fixed when it is made. So a larger set is made beside it, filled with its members, and the two change
places in one step of the kernel: the rules go on to name what is now the larger one.
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

#: Ends the name of a set that is being filled.
GROWING = "+"

#: How long somebody else may read a set before it cannot change places, s.
_READ_S = 10.0

#: Members for each bucket of a new hash: the kernel would double it, again and again, while it is filled.
_PER_BUCKET = 2

#: The first revision of hash:net with counters.
_REVISION = 3


@dataclass(frozen=True, slots=True)
class Size:
    """A set of networks with timeouts."""

    family: int  #: 4 or 6
    entries: int  #: members that are not over
    maxelem: int  #: the most it may have

    @property
    def fill(self) -> int:
        """Percent."""
        return 100 * self.entries // self.maxelem

    def wanted(self, least: int, limit: int, incoming: int = 0) -> int:
        """How large it should be: `least`, twice that and so on until it is not crowded; up to `limit`."""
        maxelem = max(self.maxelem, least)
        while maxelem < limit and 100 * (self.entries + incoming) > CROWDED * maxelem:
            maxelem = min(2 * maxelem, limit)
        return maxelem


def create(kernel: ip.IpSet, name: str, family: int, maxelem: int, members: int = 0) -> None:
    """Make a set which so many members are about to enter."""
    hashsize = max(1024, 1 << (members // _PER_BUCKET).bit_length())
    options = ((ip.HASHSIZE, hashsize), (ip.MAXELEM, maxelem), (ip.TIMEOUT, 0), (ip.FLAGS, ip.WITH_COUNTERS))
    kernel.create(name, "hash:net", _REVISION, ip.PROTOCOLS[family], *(ip.number(*option) for option in options))


def size_of(kernel: ip.IpSet, name: str, family: int) -> Size:
    """The set as it stands; FirewallError when it is not as `create` makes them."""
    kind, protocol, told = kernel.header(name)
    if (kind, protocol) != ("hash:net", ip.PROTOCOLS[family]) or ip.TIMEOUT not in told:
        raise FirewallError(f"set {name} exists with another type; destroy it or set [enforcer] prefix")
    if ip.ENTRIES not in told:
        raise FirewallError(f"the kernel does not count the entries of set {name}; use a newer one")
    return Size(family, int.from_bytes(told[ip.ENTRIES], "big"), int.from_bytes(told[ip.MAXELEM], "big"))


def grow(name: str, size: Size, maxelem: int) -> None:
    """Put a set of so many members at most in the place of this one, with all that is in it. Nobody may change it
    meanwhile. A million members take some seconds.
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
    """Destroy a set that was left over when growing; one that somebody reads just now stays until the next time."""
    if name + GROWING in kernel.names():
        with suppress(FirewallError):
            kernel.destroy(name + GROWING)


def _fill(kernel: ip.IpSet, larger: str, name: str, family: int) -> None:
    """Copy all members. The kernel makes each answer while the one before is taken, so it was told after that began."""
    with ip.IpSet() as told:
        told_at = asked_at = time.monotonic()
        for data in told.elements(name):
            _put(kernel, larger, data, family, told_at)
            told_at, asked_at = asked_at, time.monotonic()


def _put(kernel: ip.IpSet, larger: str, data: bytes, family: int, told_at: float) -> None:
    """Copy members that were told at this moment or later, s of the monotonic clock, so that none outlives its end.

    What may have passed is taken off each timeout, in whole seconds, rounded up: less than a second is told as one, so
    that nothing is left of it. If more has passed by the time that they are in, they are put in again.
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
    """Have them change places as soon as nobody is reading."""
    until = time.monotonic() + _READ_S
    while True:
        try:
            return kernel.swap(name, larger)
        except RefusedError as error:
            if error.number != errno.EBUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)
