"""The bans in the kernel: two ipsets with timeouts, and the marker of the ledger. No rules, no iptc.

Changes go two ways. A few at a time, where latency is what counts, to a child that stays: `ipset -` answers in 0.1 ms,
while starting one takes over 1 ms. Many at a time, or when that child fails us, to one `ipset restore`.

What proves a change: ipset asks the kernel to acknowledge every command and prints an error line for each refusal, in
order. So when the answer to a closing `test` arrives and no error line came before it, all of the batch is in the
kernel. The answer itself would prove less: a lone address counts as "in set" if a wider member covers it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from enforcer.firewall.ipset_command import Conversation, run
from enforcer.reconcile import LONGEST_TIMEOUT_MS
from shared.addresses import Network, is_ipv6, parse_network
from shared.errors import AddressError, FirewallError

#: Up to so many changes go through the child that stays; they fit a pipe's buffer (64 KiB) several times over.
SMALL_BATCH = 64

#: The longest name of a set: IPSET_MAXNAMELEN less its NUL (linux/netfilter/ipset/ip_set.h).
LONGEST_NAME = 31

#: A ban this close to its end may expire between the change and the look at it, s.
_FLEETING_S = 5

_MEMBER = re.compile(r"^add \S+ (\S+) timeout (\d+)\b(?! nomatch)", re.MULTILINE)
_ENTRIES = re.compile(r"^Number of entries: (\d+)$", re.MULTILINE)
_MAXELEM = re.compile(r" maxelem (\d+)")


class Ipsets:
    """The sets `<prefix>4` and `<prefix>6`, and the marker `<prefix>@<epoch>`. Changes are for one thread at a time.

    Every method raises FirewallError with ipset's own words and a remedy.
    """

    def __init__(self, prefix: str, maxelem: int) -> None:
        self.names = {4: f"{prefix}4", 6: f"{prefix}6"}
        self._marker = f"{prefix}@"
        self._maxelem = maxelem
        self._conversation = Conversation()

    def create(self) -> list[str]:
        """Make the sets that are missing and return their names; adopt those that stand, bans and all."""
        standing = set(_names())
        missing = []
        for family, name in self.names.items():
            kind = f"hash:net family {'inet' if family == 4 else 'inet6'} "
            if name not in standing:
                run("create", name, *kind.split(), "timeout", "0", "counters", "maxelem", str(self._maxelem))
                missing.append(f"set {name}")
                continue
            header = run("list", "-t", name, "-o", "save").split("\n", 1)[0]
            room = _MAXELEM.search(header)
            if not header.startswith(f"create {name} {kind}") or " timeout " not in header or room is None:
                raise FirewallError(f"set {name} exists with another type; destroy it or set [enforcer] prefix")
            if int(room[1]) < self._maxelem:
                raise FirewallError(
                    f"set {name} has room for {room[1]} networks, not {self._maxelem};"
                    " remove it with pinban-enforcer --disarm and start again"
                )
        return missing

    def bans(self) -> dict[Network, int]:
        """Every member of both sets with its milliseconds left; one without a timeout has LONGEST_TIMEOUT_MS."""
        bans: dict[Network, int] = {}
        for name in self.names.values():
            for text, left_s in _MEMBER.findall(run("save", name)):
                # glibc writes the deprecated ::a.b.c.d where we write ::aabb:ccdd; all else is canonical already
                network = parse_network(text) if ":" in text and "." in text else Network(text)
                bans[network] = int(left_s) * 1000 or LONGEST_TIMEOUT_MS
        return bans

    def count(self) -> int:
        """How many members both sets have that are not over (ip_set_hash_gen.h, mtype_ext_size)."""
        counted = 0
        for name in self.names.values():
            entries = _ENTRIES.search(run("list", "-t", name))
            if entries is None:
                raise FirewallError(f"ipset list -t {name} counts no entries; ipset 6.37 and later do")
            counted += int(entries[1])
        return counted

    def change(self, add: Mapping[Network, int], remove: Iterable[Network]) -> None:
        """Put networks in for so many milliseconds, and take networks out.

        The kernel counts whole seconds: a timeout is rounded down, so that no ban outlives its end, and a network
        with less than one second left is taken out.
        """
        put: dict[Network, int] = {}
        out = [_checked(network) for network in remove]
        for network, left_ms in add.items():
            left_s = min(left_ms, LONGEST_TIMEOUT_MS) // 1000
            if left_s > 0:
                put[_checked(network)] = left_s
            else:
                out.append(_checked(network))
        lines = [f"del {self._set_of(n)} {n} -exist\n" for n in out]
        lines += [f"add {self._set_of(n)} {n} timeout {left_s} -exist\n" for n, left_s in put.items()]
        if not lines:
            return
        if len(lines) <= SMALL_BATCH:
            last = next(reversed(put), out[-1] if out else None)
            assert last is not None
            if self._conversation.ask("".join(lines), f"test {self._set_of(last)} {last}\n", expect_in=last in put):
                return
        run("restore", "-exist", text="".join(lines))
        there = self.bans()
        lost = [n for n, left_s in put.items() if left_s > _FLEETING_S and n not in there]
        lost += [n for n in out if n in there and n not in put]
        if lost:
            raise FirewallError(f"{len(lost)} changes such as {lost[0]} did not last; who else edits {self.names[4]}?")

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
        ours = [n for n in _names() if n in self.names.values() or n.startswith(self._marker)]
        if ours:
            run("restore", text="".join(f"destroy {name}\n" for name in ours))

    def close(self) -> None:
        """End the child that stays."""
        self._conversation.close()

    def _set_of(self, network: Network) -> str:
        return self.names[6 if is_ipv6(network) else 4]


def _checked(network: Network) -> Network:
    """The border: what is not a network in canonical form never reaches ipset, which would ask DNS for it."""
    try:
        canonical = parse_network(network)
    except AddressError as error:
        raise FirewallError(f"not banned: {error}") from error
    if canonical != network or canonical.endswith("/0"):
        raise FirewallError(f"not banned: {network[:64]!r} has no place in a set; give a canonical network, not /0")
    return network


def _names() -> list[str]:
    return run("list", "-n").split()
