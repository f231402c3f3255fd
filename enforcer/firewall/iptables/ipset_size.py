"""How large a set is, and putting a larger one in its place while rules refer to it. Knows neither bans nor prefixes.

A set's maxelem is fixed when it is made. So a larger set is made beside it, filled with its members, and the two change
places in one step of the kernel (`ipset swap`): the rules go on to name what is now the larger one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from enforcer.firewall.iptables.ipset_command import feed, read, run
from enforcer.firewall.port import CROWDED
from shared.errors import FirewallError

#: Ends the name of a set that is being filled.
GROWING = "+"

#: Members for each bucket of a new hash: the kernel would double it, again and again, while it is filled.
_PER_BUCKET = 2

_ENTRIES = re.compile(r"^Number of entries: (\d+)$", re.MULTILINE)
_MAXELEM = re.compile(r"^Header: .* maxelem (\d+) ", re.MULTILINE)
_SAVED = re.compile(r"^(?:create .*|add \S+ (\S+) timeout (\d+)(.*))\n", re.MULTILINE)


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


def create(name: str, family: int, maxelem: int, members: int = 0) -> str:
    """The command that makes a set which so many members are about to enter."""
    hashsize = max(1024, 1 << (members // _PER_BUCKET).bit_length())
    inet = "inet" if family == 4 else "inet6"
    return f"create {name} hash:net family {inet} hashsize {hashsize} maxelem {maxelem} timeout 0 counters"


def size_of(name: str, family: int) -> Size:
    """The set as it stands; FirewallError when it is not as `create` makes them."""
    told = run("list", "-t", name)
    maxelem, entries = _MAXELEM.search(told), _ENTRIES.search(told)
    kind = f"\nHeader: family {'inet' if family == 4 else 'inet6'} "
    if "\nType: hash:net\n" not in told or kind not in told or " timeout " not in told or maxelem is None:
        raise FirewallError(f"set {name} exists with another type; destroy it or set [enforcer] prefix")
    if entries is None:
        raise FirewallError(f"ipset list -t {name} counts no entries; ipset 6.37 and later do")
    return Size(family, int(entries[1]), int(maxelem[1]))


def grow(name: str, size: Size, maxelem: int) -> None:
    """Put a set of so many members at most in the place of this one, with all that is in it. Nobody may change it
    meanwhile. A million members take some seconds.
    """
    remove_leftover(name)
    larger = name + GROWING
    try:
        feed(_filled(name, larger, size, maxelem), "restore")
        run("swap", name, larger)
    finally:
        remove_leftover(name)


def remove_leftover(name: str) -> None:
    """Destroy a set that was left over when growing; one that somebody reads just now stays until the next time."""
    if name + GROWING in run("list", "-n").split():
        with suppress(FirewallError):
            run("destroy", name + GROWING)


def _filled(name: str, larger: str, size: Size, maxelem: int) -> Iterator[str]:
    """Commands that make and fill the larger set. A second is taken off each timeout, so that no ban outlives its end:
    the kernel tells of less than a second as one, and between reading and writing time passes.
    """

    def moved(saved: re.Match[str]) -> str:
        left_s = int(saved[2] or 1)
        return "" if left_s == 1 else f"add {larger} {saved[1]} timeout {max(left_s - 1, 0)}{saved[3]}\n"

    yield create(larger, size.family, maxelem, 2 * size.entries) + "\n"
    for piece in read("save", name):
        yield _SAVED.sub(moved, piece)
