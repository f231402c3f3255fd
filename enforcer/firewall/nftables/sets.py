"""The bans in the kernel as elements of nf_tables sets, one for each prefix length, and the marker with the epoch.

An interval set would hold all lengths, but it refuses a network inside another one, and nft reads all of it before each
change (0.7 s at 100,000 members). Sets by length are hash tables: a change takes the same time at any size, and members
do not depend on each other. The kernel lets them grow without limit; the limit is in this file.

A change is one transaction. The kernel acknowledges it when all of it is in force, and that proves the change.
"""

from __future__ import annotations

import errno
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from heapq import nlargest

from enforcer.firewall import netlink as nl
from enforcer.firewall.networks import checked, network_of
from enforcer.firewall.nftables import kernel as nft
from enforcer.firewall.nftables.elements import (
    asked_element,
    family_and_length,
    set_name,
    told_elements,
)
from enforcer.firewall.port import CROWDED, Capacity
from enforcer.reconcile import LONGEST_TIMEOUT_MS
from shared.addresses import Network, is_ipv6
from shared.errors import FirewallError

#: The most networks in one transaction. The message for them takes a few times 10 MB of the kernel's memory.
_TRANSACTION = 250_000

#: The most elements in one message: the length of a nest has 16 bits, and an IPv6 element has 44 bytes.
_MESSAGE = 1_000

#: Kernels before 6.16 do not say how many members a set has, so we read and count them, and then wait so many times as
#: long as that took.
_COUNTING = 50

#: The most times that a set is read again because it changed; a set that takes longer to read than this, s, is read
#: once.
_PASSES, _LONG_S = 5, 2.0

#: The kernel's errors when a member exists, does not exist, or the tables changed while it read them.
_TRANSIENT = (errno.EEXIST, errno.ENOENT, errno.EAGAIN, errno.EINTR)

#: The flags of our sets: NFT_SET_TIMEOUT and no other.
TIMEOUT_FLAG = 0x10

_SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LENGTH, _SET_ID, _SET_COUNT = 2, 3, 4, 5, 10, 20
_LIST_SET, _LIST_ELEMENTS = 2, 3
_IPV4_ADDRESS = 7  #: nft's number for the type ipv4_addr

_MARKER = "ledger_"


class NftSets:
    """The sets of one table. One thread at a time may change them.

    Every method raises FirewallError with the kernel's reason and a remedy.
    """

    def __init__(self, table: str, needed: Iterable[tuple[int, int]], limit: int) -> None:
        """`needed`: the families and lengths that must have a set; `limit`: the most networks of each family."""
        self._table = nl.text(nft.TABLE, table)
        self._needed = [set_name(*each) for each in needed]
        self._limit = limit
        self._changes: nft.NfTables | None = None
        self._counted: dict[int, int] = {4: 0, 6: 0}
        self._count_again_at = 0.0

    @property
    def port(self) -> int:
        """The netlink port of the socket that makes changes."""
        return self._kernel().port

    def standing(self) -> dict[str, dict[int, bytes]]:
        """The sets of bans and the markers in the kernel, by name, with their attributes; empty without the table."""
        found = {}
        try:
            with nft.NfTables() as kernel:
                for body in kernel.look(nft.GET_SET, self._table):
                    told = nl.attributes(body)
                    name = told[_SET_NAME].rstrip(b"\0").decode()
                    if family_and_length(name) or name.startswith(_MARKER):
                        found[name] = told
        except nl.RefusedError as error:
            if error.number != errno.ENOENT:
                raise
        return found

    def members(self) -> Iterator[tuple[Network, int]]:
        """Every network with its milliseconds left, as it is read; one without a timeout has LONGEST_TIMEOUT_MS.

        After each datagram the kernel continues at the number of members that it has listed. If one of those is removed
        meanwhile, another one is never listed. While the kernel moves members to a larger hash table, for a while after
        a large change, it lists some twice and others never. So a set that changed, or listed a member twice, is read
        again, and this yields its members again.
        """
        for name in self._whole():
            about = family_and_length(name)
            if about is not None:
                for _ in range(_PASSES):
                    before, began = self._state(name), time.monotonic()
                    seen: set[Network] = set()
                    twice = False
                    for network, left_ms in self._members_of(name, *about):
                        twice = twice or network in seen
                        seen.add(network)
                        yield network, left_ms
                    if (self._state(name) == before and not twice) or time.monotonic() - began > _LONG_S:
                        break

    def capacity(self) -> Capacity:
        """How many networks there are, and how full the fuller family is."""
        counts = self.counts()
        fullest = max(counts, key=counts.__getitem__)
        fill = 100 * counts[fullest] // self._limit
        alarm = ""
        if fill >= CROWDED:
            alarm = (
                f"{counts[fullest]} IPv{fullest} bans are {fill} % of the {self._limit} that are allowed;"
                " raise enforcer.maxelem_limit, or unban what need not be banned"
            )
        return Capacity(bans=sum(counts.values()), size=self._limit, fill=fill, alarm=alarm)

    def counts(self) -> dict[int, int]:
        """How many networks each family has; about a second old where the members have to be read and counted."""
        standing = {family_and_length(name): told for name, told in self._whole().items()}
        counts = {4: 0, 6: 0}
        unknown = []
        for about, told in standing.items():
            if about is not None and _SET_COUNT in told:
                counts[about[0]] += int.from_bytes(told[_SET_COUNT], "big")
            elif about is not None:
                unknown.append(about)
        if not unknown:
            return counts
        began = time.monotonic()
        if began >= self._count_again_at:
            for family, length in unknown:
                counts[family] += sum(1 for _ in self._members_of(set_name(family, length), family, length))
            self._counted = counts
            self._count_again_at = time.monotonic() + _COUNTING * (time.monotonic() - began)
        return dict(self._counted)

    def change(self, add: Mapping[Network, int], remove: Iterable[Network]) -> int:
        """Add networks, each with its milliseconds left, and remove networks; returns how many did not fit.

        A network with less than a second left is removed. The set for the length of every network must exist.
        """
        put = {checked(n): min(left_ms, LONGEST_TIMEOUT_MS) for n, left_ms in add.items() if left_ms >= 1_000}
        out = {checked(n) for n in (*remove, *add) if n not in put}
        unfit = self._leave_out(put)
        every = [(network, 0) for network in out] + list(put.items())
        for start in range(0, len(every), _TRANSACTION):
            self._commit(every[start : start + _TRANSACTION])
        self._counted = {f: n + sum(is_ipv6(each) is (f == 6) for each in put) for f, n in self._counted.items()}
        return unfit

    def ledger(self) -> str | None:
        """The epoch in the marker's name; None without a marker, or with more than one."""
        markers = [name for name in self.standing() if name.startswith(_MARKER)]
        return markers[0].removeprefix(_MARKER) if len(markers) == 1 else None

    def remember_ledger(self, epoch: str) -> None:
        """Replace the marker, in one transaction."""
        if not re.fullmatch(r"[0-9A-Za-z]{1,64}", epoch):
            raise FirewallError(f"{epoch[:64]!r} is no epoch of a ledger; it is 16 hexadecimal digits")
        old = [name for name in self.standing() if name.startswith(_MARKER)]
        if old != [_MARKER + epoch]:
            kind = ((_SET_FLAGS, 0), (_SET_KEY_TYPE, _IPV4_ADDRESS), (_SET_KEY_LENGTH, 4), (_SET_ID, 1))
            new = self._table + nl.text(_SET_NAME, _MARKER + epoch) + b"".join(nl.number(*each) for each in kind)
            gone = [(nft.DEL_SET, self._table + nl.text(_SET_NAME, name)) for name in old]
            self._kernel().commit([*gone, (nft.NEW_SET, new)])

    def close(self) -> None:
        """Close the socket that changes go through."""
        if self._changes is not None:
            self._changes.close()
            self._changes = None

    def _kernel(self) -> nft.NfTables:
        if self._changes is None:
            self._changes = nft.NfTables()
        return self._changes

    def _state(self, name: str) -> tuple[int, bytes]:
        """A value that is different after a change of the set; the kernel has cheap signs for most changes only."""
        with nft.NfTables() as kernel:
            return kernel.generation(), self.standing().get(name, {}).get(_SET_COUNT, b"")

    def _whole(self) -> dict[str, dict[int, bytes]]:
        standing = self.standing()
        if missing := [name for name in self._needed if name not in standing]:
            raise FirewallError(f"nftables set {missing[0]} does not exist; the enforcer makes it at its next check")
        return standing

    def _members_of(self, name: str, family: int, length: int) -> Iterator[tuple[Network, int]]:
        with nft.NfTables() as kernel:
            for body in kernel.look(nft.GET_ELEMENTS, self._table + nl.text(_LIST_SET, name)):
                for key, left_ms in told_elements(nl.attributes(body).get(_LIST_ELEMENTS, b""), family):
                    yield network_of(key, family, length), left_ms

    def _leave_out(self, put: dict[Network, int]) -> int:
        """Remove from `put` what does not fit below the limit: the new networks that end first."""
        left_out = 0
        counts = self.counts() if put else {}
        for family, counted in counts.items():
            new = {n: ms for n, ms in put.items() if is_ipv6(n) is (family == 6)}
            if counted + len(new) <= self._limit:
                continue
            standing = {n for n, _ in self.members()}
            fresh = {n: ms for n, ms in new.items() if n not in standing}
            capacity = self._limit - sum(is_ipv6(n) is (family == 6) for n in standing)
            fit = set(nlargest(max(capacity, 0), fresh, key=fresh.__getitem__))
            for network in fresh.keys() - fit:
                del put[network]
                left_out += 1
        return left_out

    def _commit(self, elements: list[tuple[Network, int]]) -> None:
        """One transaction. A timeout of 0 removes the network.

        Nearly always, networks to add are new and networks to remove are in the set: that takes 0.1 ms. If not, the
        kernel refuses all of it. Then each network is added, deleted, and added again, because kernels before 6.12 do
        not change the timeout of a member, and a network that is not in the set cannot be deleted. That takes 16 ms,
        because the kernel waits for a grace period of RCU.
        """
        all_of: dict[str, list[bytes]] = {}
        put_in: dict[str, list[bytes]] = {}
        take_out: dict[str, list[bytes]] = {}
        for network, left_ms in elements:
            name, element = asked_element(network, left_ms)
            all_of.setdefault(name, []).append(element)
            (put_in if left_ms else take_out).setdefault(name, []).append(element)
        first = [*self._messages(nft.DEL_ELEMENTS, take_out), *self._messages(nft.NEW_ELEMENTS, put_in)]
        sure = [*self._messages(nft.NEW_ELEMENTS, all_of), *self._messages(nft.DEL_ELEMENTS, all_of)]
        sure += self._messages(nft.NEW_ELEMENTS, put_in)
        for tries_left, changes in ((2, first), (1, sure), (0, sure)):  # a member may expire between two steps
            try:
                self._kernel().commit(changes, only_new=changes is first)
            except nl.RefusedError as error:
                if not tries_left or error.number not in _TRANSIENT:
                    raise
            else:
                return

    def _messages(self, kind: int, elements: Mapping[str, list[bytes]]) -> Iterator[tuple[int, bytes]]:
        for name, of_set in elements.items():
            head = self._table + nl.text(_LIST_SET, name)
            for start in range(0, len(of_set), _MESSAGE):
                yield kind, head + nl.nest(_LIST_ELEMENTS, *of_set[start : start + _MESSAGE])
