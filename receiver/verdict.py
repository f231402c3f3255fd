"""Whether a count is a ban, and what kind of ban: the whole policy. Pure: no clock, no Redis, no random numbers.

counted -> broken_rule -> (what Redis and witnesses know of the address: Circumstances) -> decide -> Verdict
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from receiver.failures import Counted, room_of
from receiver.testimony import Belief
from shared.addresses import Network
from shared.settings import LONG, Rule

#: A bantime doubles this often at most: more would only make long numbers.
_DOUBLINGS = 20

#: The shortest ban, ms: one that ends before the kernel has it protects nobody.
_SHORTEST_MS = 2_000

#: Stands behind the rule's name when the ban came early, because a room is under attack.
HOT = ".hot"

#: Stands behind the rule's name when the ban is a short one, because nobody could tell whether its lines are forged.
BRIEF = ".brief"

#: How long such a ban is at most, ms: a forger must send its lines again each minute for each victim, and a guesser has
#: so many guesses a minute as the rule lets him.
BRIEF_MS = 60_000


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of an address whose count reached a limit."""

    allowed: bool = False  #: the allow-list has it, or a part of it
    strikes: int = 0  #: earlier bans
    belief: Belief = Belief.REAL  #: what witnesses say, when a sender of the evidence may have forged it


@dataclass(frozen=True, slots=True)
class Verdict:
    """A network to ban."""

    network: Network
    rule: str  #: with LONG or HOT behind it, when that limit was reached, then with BRIEF for a short ban
    bantime_ms: int
    evidence: tuple[Mapping[str, str], ...]  #: each failure: id, rp, alias, at; in a wider network the client too
    simulate: bool  #: all is recorded, but nobody is dropped
    strikes_kept_ms: int
    forgives: tuple[str, ...]  #: the rules that count the network from zero after this
    long: bool  #: their long windows too

    @property
    def told(self) -> str:
        """The evidence as JSON, for people."""
        return json.dumps(self.evidence)


def broken_rule(counted: Counted, rule: Rule, hot: Collection[str] = (), hot_maxretry: int = 0) -> str | None:
    """The name of the limit that this count has reached, or None. `hot` rooms have the lower limit `hot_maxretry`, for
    one client.

    A count above the limit counts too: the worker that saw the limit may have died before it banned.
    """
    if counted.count >= limit(counted, rule):
        return counted.rule
    if (
        counted.level is None and counted.rule == "pin" and _reached(counted, hot, hot_maxretry)
    ):  # nobody is banned early for a prompt
        return counted.rule + HOT
    return None


def limit(counted: Counted, rule: Rule) -> int:
    """The count that is a ban. In a wider network it is higher the more clients have joined, twice as high at most:
    where many people join, some mistype; but joins can be faked by whoever has a room.
    """
    if counted.level is not None:
        return counted.level.maxretry + min(counted.joined, counted.level.maxretry)
    return rule.long_maxretry if counted.rule.endswith(LONG) else rule.maxretry


def senders(counted: Counted) -> list[str]:
    """Who sent the lines of the evidence."""
    return [fact["rp"] for fact in _facts(counted)]


def age_ms(counted: Counted, now_ms: int) -> int:
    """How long ago the first failure of the evidence was, ms; `now_ms` is Redis TIME."""
    return max((now_ms - int(fact["at"]) for fact in _facts(counted) if fact["at"].isdecimal()), default=0)


def decide(
    counted: Counted, broken: str, rules: Mapping[str, Rule], found: Circumstances, chance: float
) -> Verdict | None:
    """The verdict on an address that broke this limit; None when it must not be banned. `chance`, 0 to 1, is for the
    jitter, so that an attacker does not know when the ban ends.

    After a ban every rule counts from zero. After a simulated ban only its own rule does; the other rules keep their
    counts.
    """
    if found.allowed:
        return None
    name = counted.rule.removesuffix(LONG)
    rule, simulate = rules[name], rules[name].simulate or found.belief is Belief.FORGED
    length_ms, brief = bantime_ms(rule, found.strikes, chance), found.belief is Belief.UNKNOWN
    return Verdict(
        counted.network,
        broken + BRIEF * brief,
        min(length_ms, BRIEF_MS) if brief else length_ms,
        tuple(_facts(counted)),
        simulate,
        int(rule.strikes_kept),
        (name,) if simulate else tuple(rules),
        counted.rule.endswith(LONG),
    )


def bantime_ms(rule: Rule, strikes: int, chance: float) -> int:
    """How long to ban an address that was banned `strikes` times before, ms; never above the rule's maximum."""
    length = float(rule.bantime)
    most = max(rule.bantime, rule.bantime_maxtime)
    if rule.bantime_increment:
        length *= rule.bantime_factor * 2 ** min(strikes, _DOUBLINGS)
        most = rule.bantime_maxtime
    return max(int(min(length + chance * rule.bantime_jitter, most)), _SHORTEST_MS)


def _facts(counted: Counted) -> list[dict[str, str]]:
    names = ("id", "rp", "alias", "at") if counted.level is None else ("id", "client", "rp", "alias", "at")
    told = (each.split(" ") for each in counted.evidence)
    return [dict(zip(names, facts, strict=True)) for facts in told if len(facts) == len(names)]


def _reached(counted: Counted, hot: Collection[str], hot_maxretry: int) -> bool:
    if not hot:
        return False
    rooms = Counter(room_of(fact["alias"]) for fact in _facts(counted))
    return any(rooms[room] >= hot_maxretry for room in hot)
