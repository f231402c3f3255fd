"""Who must never be banned: ignoreip, the allow-list, the addresses of this host. Reads /proc; no resolver."""

from __future__ import annotations

import time
from pathlib import Path
from socket import AF_INET6, inet_ntop

from shared.addresses import Network, NetworkSet, too_wide
from shared.exempt.names import Names
from shared.ledger import AllowList
from shared.settings import Settings, parse_ignored


def own_addresses(proc: Path = Path("/proc/net")) -> frozenset[str]:
    """Every IPv4 and IPv6 address of this network namespace.

    From fib_trie, whose leaves `/32 host LOCAL` are our own, and if_inet6, whose lines begin with 32 hexadecimal
    digits (proc(5)). A family that the kernel does not have has no addresses.
    """
    found: set[str] = set()
    leaf = ""
    for line in _lines(proc / "fib_trie"):
        if "|--" in line:
            leaf = line.split("|--")[1].strip()
        elif "/32 host LOCAL" in line:
            found.add(leaf)
    for line in _lines(proc / "if_inet6"):
        found.add(inet_ntop(AF_INET6, bytes.fromhex(line[:32])))
    return frozenset(found)


class Exemptions:
    """The networks that are never counted, never banned, never dropped. For one thread.

    Those of ignoreip, its names looked up in the background; those of the central allow-list; with ignoreself the
    addresses of this host, read again every `refresh_s`; and networks so wide that a ban of them must be a mistake.
    """

    def __init__(self, settings: Settings, names: Names | None = None, refresh_s: float = 10.0) -> None:
        """`names` may be shared; without it, the names in ignoreip exempt nobody."""
        self._ignored = NetworkSet(network for text in settings.ignoreip if (network := parse_ignored(text)))
        self._names = names
        self._ignoreself = settings.ignoreself
        self._refresh_s = refresh_s
        self._stale_at = 0.0
        self._own = NetworkSet(())
        self._allowed = AllowList()

    def __call__(self, network: Network) -> str:
        """Why the network is exempt, or "" when it is not."""
        if self._ignored.overlaps(network) or (self._names is not None and self._names.networks.overlaps(network)):
            return "ignoreip names it"
        if self._allowed.overlaps(network, time.monotonic_ns() // 1_000_000):
            return "the allow-list has it"
        if too_wide(network):
            return "it is too wide to ban"
        if self._ignoreself and self._own_addresses().overlaps(network):
            return "this host has an address in it"
        return ""

    def learn(self, allowed: AllowList) -> None:
        """Use this central allow-list, just read from Redis, from now on; may be called by another thread."""
        self._allowed = allowed

    def _own_addresses(self) -> NetworkSet:
        now = time.monotonic()
        if now >= self._stale_at:
            self._own = NetworkSet(own_addresses())
            self._stale_at = now + self._refresh_s
        return self._own


def names_of(settings: Settings) -> Names:
    """The thread that looks up ignoreip's names, not yet started."""
    return Names(text for text in settings.ignoreip if parse_ignored(text) is None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
