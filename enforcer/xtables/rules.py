"""The chain, rules and jumps that the request asks for, and making them through iptc. Only __main__.py imports this.

iptc is an argument, because it looks for its libraries when it is imported.
"""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from enforcer.xtables.shape import shape_of

#: How long to wait for other writers of the tables, s.
LOCK_S = 10

#: How often to try a commit: it fails if a program that ignores the lock edited the table meanwhile.
ATTEMPTS = 10


class RefusedError(Exception):
    """The request cannot be carried out; the message is for the operator."""


class Family:
    """One family's filter table, and how the request wants it."""

    def __init__(self, iptc: Any, family: int, request: Mapping[str, Any]) -> None:
        self.iptc = iptc
        self.number = family
        self.label = f"IPv{family}"
        self.rule_type, table_type = (iptc.Rule, iptc.Table) if family == 4 else (iptc.Rule6, iptc.Table6)
        # iptc opens every table in ALL to find out whether a target is a chain, and opening nat loads conntrack
        table_type.ALL = ["filter"]
        self.table = table_type("filter", autocommit=False)
        self.request = request
        self.chain = str(request["chain"])
        self.set_name = str(request["set"][str(family)])
        self.unreachable = "icmp-port-unreachable" if family == 4 else "icmp6-port-unreachable"
        self.hooks: list[str] = []
        self.errors: list[str] = []
        self.warnings: list[str] = []
        self.shape = b""  #: of the table that `converge` found or left as the request asks

    def converge(self) -> list[str]:
        """Do what the request asks, in one commit, and read it back; returns what was changed.

        The shape is asked for before the content that is found good, under the same lock. So whatever another program
        changes after that, lock or no lock, gives the table another shape.
        """
        trouble = ""
        for attempt in range(ATTEMPTS):
            time.sleep(attempt * (10 + os.getpid() % 10) / 1000)  # two that collided wait for different times
            with xtables_lock():
                mended = self._read_and_edit()
                if not mended:
                    return []
                try:
                    self.table.commit()
                except self.iptc.IPTCError as error:
                    trouble = str(error)
                    continue
                undone = self._read_and_edit()
                if not undone:
                    return mended
                trouble = f"{undone[0]} did not stay"
        raise RefusedError(f"{self.label} filter table: {trouble}; stop the other program that edits it without -w")

    def _read_and_edit(self) -> list[str]:
        """Read the table, its shape first, and change it in memory as `_edit` does."""
        self.shape = shape_of(self.number)
        self.table.refresh()
        return self._edit()

    def _edit(self) -> list[str]:
        """Change the table in memory to what the request asks; returns the changes, empty if it is so already."""
        if self.request["verb"] == "disarm":
            return self._remove_all()
        self.hooks = self._find_hooks()
        done = []
        if not self.table.is_chain(self.chain):
            self.table.create_chain(self.chain)
            done.append(f"{self.label} chain {self.chain}")
        wanted = list(self._wanted_rules())
        if self._standing_rules() != [meaning(rule) for rule in wanted]:
            self.table.flush_entries(self.chain)
            for rule in wanted:
                self.iptc.Chain(self.table, self.chain).append_rule(rule)
            done.append(f"{self.label} rules")
        for name in self._chain_names():
            done += self._mend_jump(name, wanted=name in self.hooks)
        return done

    def _remove_all(self) -> list[str]:
        if not self.table.is_chain(self.chain):
            return []
        for name in self._chain_names():
            self._mend_jump(name, wanted=False)
        self.table.flush_entries(self.chain)
        self.table.delete_chain(self.chain)
        return [f"{self.label} chain {self.chain}"]

    def _find_hooks(self) -> list[str]:
        """The chains to jump from. OUTPUT goes with INPUT, because an answer on its way may reveal a right guess."""
        asked = list(self.request["chains"])
        if "INPUT" in asked and "OUTPUT" not in asked:
            asked.append("OUTPUT")
        absent = [name for name in asked if not self.table.is_chain(name)]
        text = f"chain {', '.join(absent)} does not exist in the {self.label} filter table"
        if absent and self.label == "IPv4":  # an error, but the other chains still get their jumps
            self.errors = [f"{text}; start what makes it (docker makes DOCKER-USER), or change [enforcer] chains"]
        elif absent:
            self.warnings = [f"{text}; {self.label} packets that would pass it are not filtered"]
        return [name for name in asked if name not in absent]

    def _chain_names(self) -> list[str]:
        return [chain.name for chain in self.table.chains if chain.name != self.chain]

    def _wanted_rules(self) -> Iterator[Any]:
        protocol = self.request["protocol"]
        rejects = self.request["action"] == "reject"
        for each in ["tcp", "all"] if rejects and protocol == "all" else [protocol]:
            rule = self._rule(each, "src", "dst")
            target = rule.create_target("REJECT" if rejects else "DROP")
            if rejects:
                target.reject_with = "tcp-reset" if each == "tcp" else self.unreachable
            yield rule
        if rejects:
            yield from self._ways_out(protocol)
        rule = self._rule(protocol, "dst", "src")
        rule.create_target("DROP")
        yield rule

    def _ways_out(self, protocol: str) -> Iterator[Any]:
        """Rules that let through what REJECT sends to a member, because it passes OUTPUT like other packets to it."""
        if protocol in ("tcp", "all"):
            rule = self._rule("tcp", "dst", "src")
            rule.create_match("tcp").tcp_flags = ["RST", "RST"]
            rule.create_target("RETURN")
            yield rule
        if protocol == "all":  # of tcp and udp alone no ICMP is dropped
            name, option = ("icmp", "icmp_type") if self.label == "IPv4" else ("icmp6", "icmpv6_type")
            rule = self._rule("icmp" if self.label == "IPv4" else "icmpv6", "dst", "src")
            setattr(rule.create_match(name), option, "destination-unreachable")
            rule.create_target("RETURN")
            yield rule

    def _rule(self, protocol: str, direction: str, of_the_ports: str) -> Any:
        """A rule for packets from (src) or to (dst) members, to or from the ports. The caller sets its target."""
        rule = self.rule_type()
        if protocol != "all":
            rule.protocol = protocol
        rule.create_match("set").match_set = [self.set_name, direction]
        if self.request["ports"] is not None:
            rule.create_match("set").match_set = [self.request["ports"], of_the_ports]
        rule.create_match("comment").comment = self.chain
        return rule

    def _standing_rules(self) -> list[Any] | None:
        """What the rules in our chain mean; None if iptc cannot read one of them, which is then not ours."""
        try:
            return [meaning(rule) for rule in self.iptc.Chain(self.table, self.chain).rules]
        except (self.iptc.IPTCError, self.iptc.XTablesError, ValueError, AttributeError, TypeError):
            return None

    def _mend_jump(self, name: str, *, wanted: bool) -> list[str]:
        """Make one unconditional jump to our chain as the first rule of chain `name`, or remove all jumps."""
        jumps = self._jumps(name)
        if jumps == ([(0, True)] if wanted else []):
            return []
        first_stands = wanted and jumps[:1] == [(0, True)]
        shift = 0
        if wanted and not first_stands:
            rule = self.rule_type()
            rule.create_target(self.chain)
            self.iptc.Chain(self.table, name).insert_rule(rule)
            shift = 1
        for place, _plain in reversed(jumps[1:] if first_stands else jumps):
            self._delete(name, place + shift)
        if not wanted:
            return [f"{self.label} old jump from {name}"]
        return [f"{self.label} jump from {name}" + (" (out of place)" if jumps else "")]

    def _jumps(self, name: str) -> list[tuple[int, bool]]:
        """The places of the rules in chain `name` that jump to ours, and whether each is for every packet.

        It reads the raw entries, because iptc may not understand the matches of other programs' rules.
        """
        found = []
        entry, place = self.table.first_rule(name), 0
        while entry:
            if self.table.get_target(entry) == self.chain.encode():
                header = entry.ip if hasattr(entry, "ip") else entry.ipv6
                found.append((place, not any(bytes(header)) and entry.target_offset == self.rule_type()._entry_size()))
            entry, place = self.table.next_rule(entry), place + 1
        return found

    def _delete(self, name: str, place: int) -> None:
        """Delete by place: iptc's delete_rule takes the first equal rule, which may be the one just inserted."""
        if self.table._iptc.iptc_delete_num_entry(name.encode(), place, self.table._handle) != 1:
            raise self.iptc.IPTCError(f"can't delete rule {place + 1} of {name}")


def meaning(rule: Any) -> Any:
    """All that a rule says, to compare: its header, its matches with their parameters in order, its target."""
    matches = [(match.name, match.get_all_parameters()) for match in rule.matches]
    target = rule.target
    return bytes(rule.get_ip()), matches, target.standard_target, target.goto, target.get_all_parameters()


@contextmanager
def xtables_lock() -> Iterator[None]:
    """The lock that iptables -w takes too; libiptc itself takes none. RefusedError after LOCK_S."""

    def give_up(signum: int, frame: object) -> None:  # noqa: ARG001 - the signature of a handler
        raise TimeoutError

    path = os.environ.get("XTABLES_LOCKFILE", "/run/xtables.lock")
    signal.signal(signal.SIGALRM, give_up)
    try:
        with open(path, "a", encoding="ascii") as file:
            signal.alarm(LOCK_S)
            fcntl.flock(file, fcntl.LOCK_EX)
            signal.alarm(0)
            yield
    except TimeoutError as error:
        raise RefusedError(f"{path} was locked for {LOCK_S} s; find the holder with fuser {path}") from error
    except OSError as error:
        raise RefusedError(f"cannot lock {path} ({error}); run as root, and in a container mount /run") from error
