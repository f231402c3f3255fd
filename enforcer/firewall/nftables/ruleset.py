"""The table of the backend nftables: as it should be, in text for nft(8), and as it is in the kernel. Changes nothing.

    base chains (hooks)  ->  from_member / to_member, for packets of our ports  ->  one rule for each set of bans

nft prints the handles of the rules that it makes, so we know which rules are ours. We read these rules back once, and
later compare their bytes. So this code need not know how a version of nft or of the kernel writes an expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Literal

from enforcer.firewall import netlink as nl
from enforcer.firewall.networks import KEY_BYTES
from enforcer.firewall.nftables import kernel as nft
from enforcer.firewall.nftables.elements import family_and_length, set_name
from enforcer.firewall.nftables.sets import TIMEOUT_FLAG
from shared.errors import FirewallError

#: Before the filter chains of other programs (priority 0, firewalld's +10), after connection tracking and NAT (-100).
PRIORITY = -10

#: The hooks for each chain that the setting may name. Packets to and from a client pass input and output, or forward.
_HOOKS = {"INPUT": ("input", "output"), "OUTPUT": ("output",), "FORWARD": ("forward",), "DOCKER-USER": ("forward",)}

_HOOK_NUMBERS = {"input": 1, "forward": 2, "output": 3}

_TABLE_FLAGS, _TABLE_HANDLE = 2, 4
_CHAIN_NAME, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE, _CHAIN_HANDLE = 3, 4, 5, 7, 2
_RULE_CHAIN, _RULE_HANDLE, _RULE_EXPRESSIONS = 2, 3, 4
_SET_NAME, _SET_FLAGS, _SET_KEY_LENGTH = 2, 3, 5

#: NF_ACCEPT, as the policy of a chain.
_ACCEPT = (1).to_bytes(4, "big")

#: Families of tables, NFPROTO_*.
_FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}


def hooks_of(chains: Sequence[str]) -> tuple[str, ...]:
    """The hooks for chains of the filter table; FirewallError for a chain that has none."""
    if unknown := [name for name in chains if name not in _HOOKS]:
        raise FirewallError(
            f"[enforcer] chains: nftables has no hook for {', '.join(unknown)}; use {', '.join(_HOOKS)},"
            ' or backend = "iptables"'
        )
    return tuple(sorted({hook for name in chains for hook in _HOOKS[name]}))


@dataclass(frozen=True, slots=True)
class Look:
    """How the settings want the table to be."""

    table: str
    hooks: tuple[str, ...]
    ports: tuple[int, ...] | Literal["all"]
    protocol: str
    action: str

    @property
    def chains(self) -> tuple[str, ...]:
        """The names of all chains."""
        return ("from_member", "refuse", "to_member", *self.hooks)

    def text(self, bans: Iterable[tuple[int, int]], standing: Standing) -> str:
        """One transaction after which the table has these chains and rules and no others, and a set for each family and
        length in `bans`. Members of sets stay, and at no moment do packets of a banned client pass.
        """
        bans = sorted(bans)
        lines = [f"add table inet {self.table}", f"flush table inet {self.table}"]
        lines += [f"delete chain inet {self.table} {name}" for name in standing.chains]
        lines += [f"delete set inet {self.table} {name}" for name in sorted(standing.misshapen)]
        for family, length in bans:
            kind = f"{{ type ipv{family}_addr; flags timeout; }}"
            lines.append(f"add set inet {self.table} {set_name(family, length)} {kind}")
        lines += [f"add counter inet {self.table} {name}" for name in ("from_members", "to_members")]
        for name in self.chains:
            base = f"{{ type filter hook {name} priority {PRIORITY}; policy accept; }}" if name in self.hooks else ""
            lines.append(f"add chain inet {self.table} {name} {base}")
        lines += [f"add rule inet {self.table} {rule}" for rule in self._rules(bans)]
        return "\n".join(lines) + "\n"

    def _rules(self, bans: Iterable[tuple[int, int]]) -> Iterator[str]:
        for hook in self.hooks:
            for direction, port_field in (("from_member", "dport"), ("to_member", "sport")):
                if hook in ("input", "output") and (hook == "input") != (direction == "from_member"):
                    continue
                for match in self._matches(port_field):
                    yield f"{hook} {match} jump {direction}"
        if self.action == "reject":
            # What we reject with is a packet to a member, and passes the hook output too.
            yield "to_member tcp flags & rst == rst return"
            yield "to_member icmp type destination-unreachable return"
            yield "to_member icmpv6 type destination-unreachable return"
            yield "refuse counter name from_members meta l4proto tcp reject with tcp reset"
            yield "refuse counter name from_members reject with icmpx type port-unreachable"
        else:
            yield "refuse counter name from_members drop"
        starve = "counter name to_members drop"
        for family, length in bans:
            for chain, address, verdict in (("from_member", "saddr", "goto refuse"), ("to_member", "daddr", starve)):
                yield f"{chain} {_masked(family, length, address)} @{set_name(family, length)} {verdict}"

    def _matches(self, port_field: str) -> Iterator[str]:
        if self.ports != "all":
            for port in self.ports:
                yield f"{self.protocol} {port_field} {port}"
        else:
            yield "" if self.protocol == "all" else f"meta l4proto {self.protocol}"


def _masked(family: int, length: int, address: str) -> str:
    protocol, everything = ("ip", "0.0.0.0") if family == 4 else ("ip6", "::")  # noqa: S104 - a mask
    mask = "" if length == 8 * KEY_BYTES[family] else f" & {ip_network(f'{everything}/{length}').netmask}"
    return f"{protocol} {address}{mask}"


@dataclass(frozen=True, slots=True)
class Standing:
    """The table as it is in the kernel: all of it that we need."""

    table: tuple[int, int] = (0, 0)  #: handle and flags; handle 0 when there is no table
    chains: dict[str, tuple[bytes, ...]] = field(default_factory=dict)  #: by name: handle, hook, policy, type
    rules: dict[str, tuple[int, ...]] = field(default_factory=dict)  #: by chain: the handles in order
    contents: dict[str, tuple[bytes, ...]] = field(default_factory=dict)  #: by chain: the bytes of the rules
    bans: frozenset[tuple[int, int]] = frozenset()  #: families and lengths of the sets that are as they should be
    misshapen: frozenset[str] = frozenset()  #: sets that have a name of ours, but another type

    @property
    def dormant(self) -> bool:
        """Whether the kernel passes no packet through the table."""
        return bool(self.table[1])

    @property
    def accepts(self) -> bool:
        """Whether every base chain lets through what no rule drops."""
        return all(policy in (b"", _ACCEPT) for _, _, policy, _ in self.chains.values())


def read(table: str) -> Standing:
    """The table at one moment. FirewallError when the kernel refuses to show it."""
    for _ in range(100):
        with nft.NfTables() as kernel:
            before = kernel.generation()
            standing = _read(kernel, table)
            if kernel.generation() == before:
                return standing
    raise FirewallError("nftables: another program changes the ruleset all the time; stop it")


def tables_with_rules() -> set[str]:
    """Family and name of each table that has rules, ours too. FirewallError without permission to look."""
    with nft.NfTables() as kernel:
        return {
            f"{name} {_text(nl.attributes(body)[nft.TABLE])}"
            for family, name in _FAMILIES.items()
            for body in kernel.look(nft.GET_RULE, family=family)
        }


def _read(kernel: nft.NfTables, table: str) -> Standing:
    name = nl.text(nft.TABLE, table)
    ours = table.encode() + b"\0"
    tables = [nl.attributes(body) for body in kernel.look(nft.GET_TABLE)]
    handles = [(_int(each[_TABLE_HANDLE]), _int(each[_TABLE_FLAGS])) for each in tables if each[nft.TABLE] == ours]
    if not handles:
        return Standing()
    chains: dict[str, tuple[bytes, ...]] = {}
    rules: dict[str, tuple[int, ...]] = {}
    contents: dict[str, tuple[bytes, ...]] = {}
    try:
        for body in kernel.look(nft.GET_CHAIN):
            chain = nl.attributes(body)
            if chain[nft.TABLE] == ours:
                about = (_CHAIN_HANDLE, _CHAIN_HOOK, _CHAIN_POLICY, _CHAIN_TYPE)
                chains[_text(chain[_CHAIN_NAME])] = tuple(chain.get(kind, b"") for kind in about)
        for body in kernel.look(nft.GET_RULE, name):
            rule = nl.attributes(body)
            of = _text(rule[_RULE_CHAIN])
            rules[of] = (*rules.get(of, ()), _int(rule[_RULE_HANDLE]))
            contents[of] = (*contents.get(of, ()), rule.get(_RULE_EXPRESSIONS, b""))
        shapes = {}
        for body in kernel.look(nft.GET_SET, name):
            told_set = nl.attributes(body)
            if about_set := family_and_length(_text(told_set[_SET_NAME])):
                flags = _int(told_set.get(_SET_FLAGS, b""))
                shapes[about_set] = (flags, _int(told_set[_SET_KEY_LENGTH])) == (TIMEOUT_FLAG, KEY_BYTES[about_set[0]])
    except nl.RefusedError:
        return Standing()  # the table was deleted meanwhile; the generation has changed, so `read` tries again
    good = frozenset(each for each, shape in shapes.items() if shape)
    bad = frozenset(set_name(*each) for each, shape in shapes.items() if not shape)
    return Standing(handles[0], chains, rules, contents, good, bad)


def _int(data: bytes) -> int:
    return int.from_bytes(data, "big")


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode()
