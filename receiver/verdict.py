"""Deciding whether a count is a ban, and for how long. Pure: no clock, no socket, no Redis, no dice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

from receiver.failures import Counted
from shared.addresses import Network
from shared.settings import LONG, Rule

#: A ban's time doubles so often at most; more would only make numbers long.
_DOUBLINGS = 20

#: What the rule is called when its ban came early, because a room is under attack.
HOT = ".hot"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A network to ban."""

    network: Network
    rule: str  #: with the window's ending, or HOT
    bantime_ms: int
    evidence: tuple[str, ...]


def decide(
    counted: Counted,
    rule: Rule,
    *,
    strikes: int = 0,
    chance: float = 0.0,
    hot: Collection[str] = (),
    hot_maxretry: int = 0,
) -> Verdict | None:
    """Ban at the limit and above it: if the worker that saw the limit died, the next failure makes good.

    `hot` rooms have the lower limit `hot_maxretry`; `strikes` are earlier bans; `chance`, 0 to 1, is for the jitter.
    """
    name = counted.rule
    limit = rule.long_maxretry if name.endswith(LONG) else rule.maxretry
    if counted.count < limit:
        if name != "pin" or not _reached(counted, hot, hot_maxretry):  # nobody is banned early for a prompt
            return None
        name += HOT
    return Verdict(counted.network, name, bantime_ms(rule, strikes, chance), counted.evidence)


def bantime_ms(rule: Rule, strikes: int, chance: float) -> int:
    """How long to ban an address that was banned `strikes` times before, ms; never above the rule's maximum.

    The jitter keeps an attacker from knowing the moment at which it may begin again.
    """
    length = float(rule.bantime)
    most = max(rule.bantime, rule.bantime_maxtime)
    if rule.bantime_increment:
        length *= rule.bantime_factor * 2 ** min(strikes, _DOUBLINGS)
        most = rule.bantime_maxtime
    return max(int(min(length + chance * rule.bantime_jitter, most)), 2_000)


def _reached(counted: Counted, hot: Collection[str], hot_maxretry: int) -> bool:
    if not hot:
        return False
    rooms = Counter(evidence.split(" ")[2] for evidence in counted.evidence)
    return any(rooms[room] >= hot_maxretry for room in hot)
