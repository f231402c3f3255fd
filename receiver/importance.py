"""How important a failure is, by its rule. Pure; nothing else decides it."""

from __future__ import annotations

from collections.abc import Mapping

from receiver.failures import Failure
from receiver.spool import Importance
from shared.settings import Rule


def importance_of(failure: Failure, rules: Mapping[str, Rule]) -> Importance:
    """Everybody makes prompts and joins, as many as he likes; each wrong PIN costs a guesser an answer of a node."""
    if failure.joined or rules[failure.rule].simulate:
        return Importance.LEAST
    return Importance.URGENT if failure.rule == "pin" else Importance.ORDINARY
