"""Deciding whether a count is a ban. Pure: no clock, no socket, no Redis."""

from __future__ import annotations

from dataclasses import dataclass

from receiver.failures import Counted
from shared.addresses import Network
from shared.settings import Rule


@dataclass(frozen=True, slots=True)
class Verdict:
    """A network to ban."""

    network: Network
    rule: str
    bantime_ms: int
    evidence: tuple[str, ...]


def decide(counted: Counted, rule: Rule) -> Verdict | None:
    """Ban at the limit and above it: if the worker that saw the limit died, the next failure makes good."""
    if counted.count < rule.maxretry:
        return None
    return Verdict(counted.network, counted.rule, int(rule.bantime), counted.evidence)
