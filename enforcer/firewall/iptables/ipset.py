"""The bans in the kernel: two ipsets with timeouts, and the marker of the ledger. No rules, no iptc.

Changes go two ways. A few at a time, where latency is what counts, to a child that stays: `ipset -` answers in 0.1 ms,
while starting one takes over 1 ms. Many at a time, or when that child fails us, to one `ipset restore`.

What proves a change: ipset asks the kernel to acknowledge every command and prints an error line for each refusal, in
order. So when the answer to a closing `test` arrives and no error line came before it, all of the batch is in the
kernel. The answer itself would prove less: a lone address counts as "in set" if a wider member covers it.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import chain, islice

from enforcer.firewall.iptables.ipset_command import Conversation, FullError, feed, run
from enforcer.firewall.iptables.ipset_members import check, family_of, members_of
from enforcer.firewall.iptables.ipset_size import GROWING, create, grow, remove_leftover, size_of
from enforcer.firewall.port import CROWDED, Capacity
from enforcer.reconcile import LONGEST_TIMEOUT_MS
from shared.addresses import Network
from shared.errors import FirewallError

#: Up to so many changes go through the child that stays; they fit a pipe's buffer (64 KiB) several times over.
SMALL_BATCH = 64

#: The longest name of a set: IPSET_MAXNAMELEN less its NUL (linux/netfilter/ipset/ip_set.h).
LONGEST_NAME = 31

#: A ban this close to its end may expire between the change and the look at it, ms.
_FLEETING_MS = 5_000

#: After a set was found full, a few new bans are not tried for so long; a check puts in what fits by then, s.
_FULL_S = 10.0

#: Lines of a bulk that are made at once.
_LINES = 1_000


class Ipsets:
    """The sets `<prefix>4` and `<prefix>6`, and the marker `<prefix>@<epoch>`. Changes are for one thread at a time.

    Every method raises FirewallError with ipset's own words and a remedy.
    """

    def __init__(self, prefix: str, maxelem: int, limit: int) -> None:
        """`maxelem` is a set's size at first, and `limit` how far it may grow."""
        self.names = {4: f"{prefix}4", 6: f"{prefix}6"}
        self._marker = f"{prefix}@"
        self._maxelem = maxelem
        self._limit = max(limit, maxelem)
        self._conversation = Conversation()
        self._growing = threading.Lock()
        self._full_until = dict.fromkeys(self.names, 0.0)  #: by family, s of the monotonic clock

    def create(self) -> list[str]:
        """Make the sets that are missing and return their names; adopt those that stand, bans and all."""
        standing = set(_names())
        missing = []
        for family, name in self.names.items():
            if name not in standing:
                run(*create(name, family, self._maxelem).split())
                missing.append(f"set {name}")
            else:
                size_of(name, family)
                with self._growing:
                    remove_leftover(name)
        return missing

    def members(self) -> Iterator[tuple[Network, int]]:
        """Every member of both sets with its milliseconds left; one without a timeout has LONGEST_TIMEOUT_MS."""
        return chain.from_iterable(members_of(name) for name in self.names.values())

    def capacity(self) -> Capacity:
        """How many members both sets have that are not over, and how full the fuller one is."""
        sizes = [size_of(name, family) for family, name in self.names.items()]
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
        """Put larger sets in the place of those that are crowded or smaller than `maxelem`; what was made."""
        return [made for family in self.names if (made := self._enlarge(family, 0))]

    def change(self, add: Mapping[Network, int], remove: Set[Network]) -> int:
        """Put networks in for so many milliseconds, and take networks out; returns how many did not fit.

        The kernel counts whole seconds: a timeout is rounded down, so that no ban outlives its end, and a network
        with less than one second left is taken out.
        """
        for network in chain(remove, add):
            check(network)
        if not add and not remove:
            return 0
        if len(add) + len(remove) > SMALL_BATCH:
            return self._change_many(add, remove)
        put = {n: ms for n, ms in add.items() if time.monotonic() >= self._full_until[family_of(n)]}
        lines = list(self._lines(put, remove))
        if lines:
            last = next(reversed(put), None) or next(iter(remove))
            ends_in = put.get(last, 0) >= 1000
            test = f"test {self.names[family_of(last)]} {last}\n"
            if not self._conversation.ask("".join(lines), test, expect_in=ends_in):
                return self._change_many(put, remove) + len(add) - len(put)
        return len(add) - len(put)

    def ledger(self) -> str | None:
        """The epoch in the marker's name; None without a marker, or with more than one."""
        markers = [name for name in _names() if name.startswith(self._marker)]
        return markers[0].removeprefix(self._marker) if len(markers) == 1 else None

    def remember_ledger(self, epoch: str) -> None:
        """Replace the marker. It is gone for a moment: a crash then leaves none, which claims nothing."""
        marker = (self._marker + epoch)[:LONGEST_NAME]
        if not re.fullmatch(r"[0-9A-Za-z]+", epoch):
            raise FirewallError(f"{epoch[:64]!r} is no epoch of a ledger; it is 16 hexadecimal digits")
        old = [name for name in _names() if name.startswith(self._marker)]
        if old != [marker]:
            lines = [f"destroy {name}\n" for name in old]
            run("restore", text="".join(lines) + f"create {marker} hash:net hashsize 64 maxelem 1\n")

    def destroy(self) -> None:
        """Remove the sets and the marker, those of them that stand."""
        known = {name + suffix for name in self.names.values() for suffix in ("", GROWING)}
        ours = [n for n in _names() if n in known or n.startswith(self._marker)]
        if ours:
            run("restore", text="".join(f"destroy {name}\n" for name in ours))

    def close(self) -> None:
        """End the child that stays."""
        self._conversation.close()

    def _change_many(self, add: Mapping[Network, int], remove: Set[Network]) -> int:
        """The same by one `ipset restore`, and read back."""
        began = time.monotonic()
        refused: set[Network] = set()
        for family in self.names:
            incoming = sum(family_of(network) == family for network in add)
            if incoming:
                self._enlarge(family, incoming)
                refused |= self._without_room(family, add, incoming)
        try:
            feed(self._pieces(add, remove, refused, began), "restore", "-exist")
        except FullError:
            # The kernel counts members that are over until it sweeps them out (mtype_add, ip_set_hash_gen.h).
            for family in self.names:
                if not self._enlarge(family, len(add), at_once=True):
                    refused |= self._without_room(family, add)
            feed(self._pieces(add, remove, refused, began), "restore", "-exist")
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
                f"{len(lost) + len(wrong)} changes such as {example} did not last; who else edits {self.names[4]}?"
            )
        return len(refused)

    def _enlarge(self, family: int, incoming: int, *, at_once: bool = False) -> str:
        """A larger set if this many more would crowd the one that stands, or at once; what was made."""
        name = self.names[family]
        size = size_of(name, family)
        maxelem = size.wanted(self._maxelem, self._limit, incoming)
        if at_once and maxelem == size.maxelem < self._limit:
            maxelem = min(2 * maxelem, self._limit)
        if maxelem <= size.maxelem:
            return ""
        with self._growing:
            grow(name, size, maxelem)
        return f"set {name} larger, for {maxelem} bans instead of {size.maxelem}"

    def _without_room(self, family: int, add: Mapping[Network, int], incoming: int | None = None) -> set[Network]:
        """Those of `add` that do not fit in a set which cannot grow: the first to end. None of them if `incoming`
        says how many they are at most, and so many fit; without it none fits at all.
        """
        name = self.names[family]
        size = size_of(name, family)
        free = 0 if incoming is None else max(size.maxelem - size.entries, 0)
        if incoming is not None and incoming <= free:
            return set()
        new = {network for network in add if family_of(network) == family}
        new.difference_update(network for network, _ in members_of(name))
        refused = set(sorted(new, key=add.__getitem__, reverse=True)[free:])
        if refused:
            self._full_until[family] = time.monotonic() + _FULL_S
        return refused

    def _pieces(
        self, add: Mapping[Network, int], remove: Set[Network], refused: Set[Network], began: float
    ) -> Iterator[str]:
        """The commands of a bulk. What has passed since `began`, s, is no more part of a ban."""
        lines = self._lines(add, remove, refused, lambda: (time.monotonic() - began) * 1000)
        while piece := "".join(islice(lines, _LINES)):
            yield piece

    def _lines(
        self,
        add: Mapping[Network, int],
        remove: Set[Network],
        refused: Set[Network] = frozenset(),
        passed_ms: Callable[[], float] = float,
    ) -> Iterator[str]:
        """A command for each network that is not refused."""
        for network in remove:
            yield f"del {self.names[family_of(network)]} {network} -exist\n"
        for network, left_ms in add.items():
            if network in refused:
                continue
            left_s = int(min(left_ms - passed_ms(), LONGEST_TIMEOUT_MS)) // 1000
            if left_s > 0:
                yield f"add {self.names[family_of(network)]} {network} timeout {left_s} -exist\n"
            else:
                yield f"del {self.names[family_of(network)]} {network} -exist\n"


def _names() -> list[str]:
    return run("list", "-n").split()
