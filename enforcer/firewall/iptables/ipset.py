"""The bans in the kernel: two ipsets with timeouts, and the marker with the ledger's epoch. No rules, no iptc.

The kernel acknowledges a message when all of its elements are in force, and that proves the change. A large change is
also read back, because it takes so long that another program may edit the sets meanwhile.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping, Set
from itertools import chain

from enforcer.firewall.iptables import kernel as ip
from enforcer.firewall.iptables.ipset_members import element_of, members_of
from enforcer.firewall.iptables.ipset_size import GROWING, create, grow, remove_leftover, size_of
from enforcer.firewall.netlink import RefusedError
from enforcer.firewall.networks import checked, family_of
from enforcer.firewall.port import CROWDED, Capacity
from enforcer.reconcile import LONGEST_TIMEOUT_MS
from shared.addresses import Network
from shared.errors import FirewallError

#: The most changes that are made without a look at how full the sets are and without reading back, to save time.
SMALL_BATCH = 64

#: A ban with so little time left may expire before it is read back, ms.
_FLEETING_MS = 5_000

#: For so long after a set was full, small changes put no ban into it, s. A check puts in later what fits then.
_FULL_S = 10.0


class Ipsets:
    """The sets `<prefix>4` and `<prefix>6`, and the marker `<prefix>@<epoch>`. One thread at a time may change them.

    Every method raises FirewallError with the kernel's reason and a remedy.
    """

    def __init__(self, prefix: str, maxelem: int, limit: int) -> None:
        """`maxelem` is the size of a new set, and `limit` the size that it may grow to."""
        self.names = {4: f"{prefix}4", 6: f"{prefix}6"}
        self._marker = f"{prefix}@"
        self._maxelem = maxelem
        self._limit = max(limit, maxelem)
        self._changes: ip.IpSet | None = None
        self._growing = threading.Lock()
        self._full_until = dict.fromkeys(self.names, 0.0)  #: by family, s of the monotonic clock

    def create(self) -> list[str]:
        """Make the sets that are missing and return their names; keep those that exist, with their bans."""
        missing = []
        with ip.IpSet() as kernel:
            standing = set(kernel.names())
            for family, name in self.names.items():
                if name not in standing:
                    create(kernel, name, family, self._maxelem)
                    missing.append(f"set {name}")
                else:
                    size_of(kernel, name, family)
                    with self._growing:
                        remove_leftover(kernel, name)
        return missing

    def members(self) -> Iterator[tuple[Network, int]]:
        """Every member of both sets with its milliseconds left; one without a timeout has LONGEST_TIMEOUT_MS."""
        return chain.from_iterable(members_of(name, family) for family, name in self.names.items())

    def capacity(self) -> Capacity:
        """How many members of both sets have not expired, and how full the fuller set is."""
        with ip.IpSet() as kernel:
            sizes = [size_of(kernel, name, family) for family, name in self.names.items()]
        fullest = max(sizes, key=lambda size: size.fill)
        alarm = ""
        if fullest.fill >= CROWDED and fullest.maxelem >= self._limit:
            alarm = (
                f"set {self.names[fullest.family]} is {fullest.fill} % full and may not hold more than"
                f" {fullest.maxelem} bans; raise enforcer.maxelem_limit, or unban what need not be banned"
            )
        return Capacity(
            bans=sum(size.entries for size in sizes),
            size=fullest.maxelem,
            fill=fullest.fill,
            wanted=any(size.wanted(self._maxelem, self._limit) > size.maxelem for size in sizes),
            alarm=alarm,
        )

    def enlarge(self) -> list[str]:
        """Replace sets that are crowded or smaller than `maxelem` by larger ones; returns what was made."""
        return [made for family in self.names if (made := self._enlarge(family, 0))]

    def change(self, add: Mapping[Network, int], remove: Set[Network]) -> int:
        """Add networks, each with its milliseconds left, and remove networks; returns how many did not fit.

        The kernel counts whole seconds: a timeout is rounded down, so that no ban lasts too long, and a network with
        less than one second left is removed.
        """
        for network in chain(remove, add):
            checked(network)
        if len(add) + len(remove) > SMALL_BATCH:
            return self._change_many(add, remove)
        put = {n: ms for n, ms in add.items() if time.monotonic() >= self._full_until[family_of(n)]}
        try:
            self._carry_out(put, remove)
        except RefusedError as error:
            if error.number != ip.FULL:
                raise
            return self._change_many(put, remove) + len(add) - len(put)
        return len(add) - len(put)

    def ledger(self) -> str | None:
        """The epoch in the marker's name; None without a marker, or with more than one."""
        with ip.IpSet() as kernel:
            markers = self._markers(kernel)
        return markers[0].removeprefix(self._marker) if len(markers) == 1 else None

    def remember_ledger(self, epoch: str) -> None:
        """Replace the marker. For a moment there is none: after a crash then, `ledger` returns None, which is safe."""
        marker = (self._marker + epoch)[: ip.LONGEST_NAME]
        if not re.fullmatch(r"[0-9A-Za-z]+", epoch):
            raise FirewallError(f"{epoch[:64]!r} is no epoch of a ledger; it is 16 hexadecimal digits")
        with ip.IpSet() as kernel:
            old = self._markers(kernel)
            if old != [marker]:
                for name in old:
                    kernel.destroy(name)
                kernel.create(
                    marker, "hash:net", 0, ip.PROTOCOLS[4], ip.number(ip.HASHSIZE, 64), ip.number(ip.MAXELEM, 1)
                )

    def destroy(self) -> None:
        """Remove the sets and the marker, if they exist."""
        known = {name + suffix for name in self.names.values() for suffix in ("", GROWING)}
        with ip.IpSet() as kernel:
            for name in kernel.names():
                if name in known or name.startswith(self._marker):
                    kernel.destroy(name)

    def close(self) -> None:
        """Close the socket that changes go through."""
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    def _markers(self, kernel: ip.IpSet) -> list[str]:
        return [name for name in kernel.names() if name.startswith(self._marker)]

    def _change_many(self, add: Mapping[Network, int], remove: Set[Network]) -> int:
        """As `change`, but enlarge the sets first, and read back what was changed."""
        began = time.monotonic()
        refused: set[Network] = set()
        for family in self.names:
            incoming = sum(family_of(network) == family for network in add)
            if incoming:
                self._enlarge(family, incoming)
                refused |= self._without_room(family, add, incoming)
        try:
            self._carry_out(add, remove, refused, began)
        except RefusedError as error:
            if error.number != ip.FULL:
                raise
            # The kernel counts expired members until its garbage collection (mtype_add, ip_set_hash_gen.h).
            for family in self.names:
                if not self._enlarge(family, len(add), at_once=True):
                    refused |= self._without_room(family, add)
            self._carry_out(add, remove, refused, began)
        passed_ms = (time.monotonic() - began) * 1000
        lost = {n for n, left_ms in add.items() if left_ms - passed_ms > _FLEETING_MS and n not in refused}
        gone = remove - add.keys()
        wrong = set()
        for network, _ in self.members():
            lost.discard(network)
            if network in gone:
                wrong.add(network)
        if lost or wrong:
            example = next(iter(lost or wrong))
            raise FirewallError(
                f"{len(lost) + len(wrong)} changes such as {example} did not last;"
                f" stop the other program that edits the sets {' and '.join(self.names.values())}"
            )
        return len(refused)

    def _enlarge(self, family: int, incoming: int, *, at_once: bool = False) -> str:
        """Make the set larger if it would be crowded with so many more, or at once; returns what was made."""
        name = self.names[family]
        with ip.IpSet() as kernel:
            size = size_of(kernel, name, family)
        maxelem = size.wanted(self._maxelem, self._limit, incoming)
        if at_once and maxelem == size.maxelem < self._limit:
            maxelem = min(2 * maxelem, self._limit)
        if maxelem <= size.maxelem:
            return ""
        with self._growing:
            grow(name, size, maxelem)
        return f"set {name} larger, for {maxelem} bans instead of {size.maxelem}"

    def _without_room(self, family: int, add: Mapping[Network, int], incoming: int | None = None) -> set[Network]:
        """Those of `add` that do not fit into a set that cannot grow: the first to end.

        `incoming` is how many new ones there are at most; if so many fit, there is nothing to refuse. Without it the
        set counts as full.
        """
        name = self.names[family]
        with ip.IpSet() as kernel:
            size = size_of(kernel, name, family)
        free = 0 if incoming is None else max(size.maxelem - size.entries, 0)
        if incoming is not None and incoming <= free:
            return set()
        new = {network for network in add if family_of(network) == family}
        new.difference_update(network for network, _ in members_of(name, family))
        refused = set(sorted(new, key=add.__getitem__, reverse=True)[free:])
        if refused:
            self._full_until[family] = time.monotonic() + _FULL_S
        return refused

    def _carry_out(
        self,
        add: Mapping[Network, int],
        remove: Set[Network],
        refused: Set[Network] = frozenset(),
        began: float | None = None,
    ) -> None:
        """Make the change, without what is refused. The time since `began`, s, is taken off each ban."""
        if self._changes is None:
            self._changes = ip.IpSet()
        for family, name in self.names.items():
            over: list[Network] = []
            self._changes.change(ip.DELETE, name, (element_of(n) for n in remove if family_of(n) == family))
            self._changes.change(ip.ADD, name, _put(family, add, refused, over, began))
            self._changes.change(ip.DELETE, name, map(element_of, over))


def _put(
    family: int, add: Mapping[Network, int], refused: Set[Network], over: list[Network], began: float | None
) -> Iterator[bytes]:
    """The elements of one family, with the time that is left when each is sent; those with less than a second left go
    into `over` instead.
    """
    for network, left_ms in add.items():
        if family_of(network) == family and network not in refused:
            passed_ms = 0.0 if began is None else (time.monotonic() - began) * 1000
            left_s = int(min(left_ms - passed_ms, LONGEST_TIMEOUT_MS)) // 1000
            if left_s > 0:
                yield element_of(network, left_s)
            else:
                over.append(network)
