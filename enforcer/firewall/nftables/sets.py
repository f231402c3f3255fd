"""The bans in the kernel as elements of nf_tables sets, one set for each prefix length, and the marker of the ledger.

An interval set would hold all lengths, but refuses a network that another one contains, and nft reads all of it before
each change (0.7 s at 100,000 members). Sets by length are hash tables: a change costs the same at any size, and no
member has to agree with any other. They have no size of their own; the kernel lets them grow, and the limit is ours.

What proves a change: it is one transaction, which the kernel acknowledges when all of it is in force.
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

#: Networks in one transaction at most: what is sent for them takes a few times 10 MB of the kernel's memory.
_TRANSACTION = 250_000

#: Elements in one message at most: a nest's length has 16 bits, and an IPv6 element takes 44 bytes.
_MESSAGE = 1_000

#: Counting a set by reading it may take one part in so many of our time (kernels before 6.16 do not tell a count).
_COUNTING = 50

#: How often a set that changes is read at most; a set that takes longer than this to read is read once, s.
_PASSES, _LONG_S = 5, 2.0

#: What the kernel says when a member is there, is not there, or the tables changed while it looked.
_TRANSIENT = (errno.EEXIST, errno.ENOENT, errno.EAGAIN, errno.EINTR)

#: What a kernel set needs to be one of ours: NFT_SET_TIMEOUT and nothing else.
TIMEOUT_FLAG = 0x10

_SET_NAME, _SET_FLAGS, _SET_KEY_TYPE, _SET_KEY_LENGTH, _SET_ID, _SET_COUNT = 2, 3, 4, 5, 10, 20
_LIST_SET, _LIST_ELEMENTS = 2, 3
_IPV4_ADDRESS = 7  #: nft's number for the type ipv4_addr

_MARKER = "ledger_"


class NftSets:
    """The sets of one table. Changes are for one thread at a time.

    Every method raises FirewallError with the kernel's reason and a remedy.
    """

    def __init__(self, table: str, needed: Iterable[tuple[int, int]], limit: int) -> None:
        """`needed` are the families and lengths without which the table is not whole; `limit` networks per family."""
        self._table = nl.text(nft.TABLE, table)
        self._needed = [set_name(*each) for each in needed]
        self._limit = limit
        self._changes: nft.NfTables | None = None
        self._counted: dict[int, int] = {4: 0, 6: 0}
        self._count_again_at = 0.0

    @property
    def port(self) -> int:
        """The netlink port that changes come from."""
        return self._kernel().port

    def standing(self) -> dict[str, dict[int, bytes]]:
        """The sets of bans and the markers that stand, by name, with their attributes; empty without the table."""
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

        The kernel goes on, after each datagram, by how many members it has told: when one of those goes away
        meanwhile, another is never told. While it moves members to a larger table, as it does for a while after a bulk,
        it tells some twice and others never. So a set that changed, or told one twice, is read again, and what was told
        is told once more.
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
        """How many networks there are, and how near the fuller family is to the limit."""
        counts = self.counts()
        fullest = max(counts, key=counts.__getitem__)
        fill = 100 * counts[fullest] // self._limit
        alarm = ""
        if fill >= CROWDED:
            alarm = (
                f"{counts[fullest]} IPv{fullest} bans are {fill} % of what there may be;"
                " raise enforcer.maxelem_limit, or unban what need not be banned"
            )
        return Capacity(bans=sum(counts.values()), size=self._limit, fill=fill, alarm=alarm)

    def counts(self) -> dict[int, int]:
        """How many networks each family has, a second or so behind where the kernel has to be asked at length."""
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
        """Put networks in for so many milliseconds, take networks out; returns how many did not fit.

        What has less than a second to live is taken out. The set of every network's length must stand.
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
        """What is another when a set has changed, as far as the kernel tells cheaply."""
        with nft.NfTables() as kernel:
            return kernel.generation(), self.standing().get(name, {}).get(_SET_COUNT, b"")

    def _whole(self) -> dict[str, dict[int, bytes]]:
        standing = self.standing()
        if missing := [name for name in self._needed if name not in standing]:
            raise FirewallError(f"nftables set {missing[0]} does not exist; the next install makes it")
        return standing

    def _members_of(self, name: str, family: int, length: int) -> Iterator[tuple[Network, int]]:
        with nft.NfTables() as kernel:
            for body in kernel.look(nft.GET_ELEMENTS, self._table + nl.text(_LIST_SET, name)):
                for key, left_ms in told_elements(nl.attributes(body).get(_LIST_ELEMENTS, b""), family):
                    yield network_of(key, family, length), left_ms

    def _leave_out(self, put: dict[Network, int]) -> int:
        """Take out of `put` what does not fit below the limit: of new networks those that end first."""
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
        """One transaction. A timeout of 0 takes the network out.

        Nearly always what is put in is new and what is taken out is there. If not, the kernel refuses all of it, and
        then each is added, deleted, and added again, because kernels before 6.12 do not change a member's timeout, and
        what is absent cannot be deleted. That way takes 16 ms, for a grace period of RCU, and the first 0.1 ms.
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
