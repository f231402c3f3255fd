"""Asks the enforcers whether networks had connections, and reads what they answer; see receiver/testimony.py."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from receiver.testimony import Rp
from shared.errors import StoreError
from shared.ledger import Ledger
from shared.nodes import read_nodes
from shared.store import Store, text_of

#: Most addresses of an RP, and most RPs, that are believed: their accounts write what they like.
_MOST_ADDRESSES, _MOST_RPS = 100, 256

#: How long the list of RPs is used, s.
_LIST_S = 1.0


class Witnesses:
    """The enforcers of one deployment. Every method raises StoreError when Redis fails."""

    def __init__(self, store: Store, ledger: Ledger) -> None:
        self._store = store
        self._ledger = ledger
        self._rps: list[Rp] = []
        self._stale_at = 0.0

    def ask(self, questions: Sequence[tuple[str, int, str]]) -> None:
        """Ask all enforcers: each question is a network, the age of its first failure in ms, and its own id."""
        self._ledger.ask(questions)

    def rps(self) -> list[Rp]:
        """The enforcers that can answer, dead ones too: what a dead one owns is still its own."""
        if time.monotonic() >= self._stale_at:
            nodes = [node for node in read_nodes(self._store) if node.kind == "enforcer"][:_MOST_RPS]
            self._rps = [
                Rp(node.name, frozenset(node.fields.get("addresses", "").split()[:_MOST_ADDRESSES]), node.alive)
                for node in nodes
            ]
            self._stale_at = time.monotonic() + _LIST_S
        return self._rps

    def answers(self, fields: Sequence[str]) -> list[Mapping[str, str]]:
        """For each question, "network id", what the RPs have answered so far, by their names."""
        rps = self.rps()
        found: list[dict[str, str]] = [{} for _ in fields]
        if not fields:
            return list(found)
        replies = self._store.each([("HMGET", self._store.keys.witness(rp.name), *fields) for rp in rps])
        for rp, reply in zip(rps, replies, strict=True):
            if isinstance(reply, StoreError):
                continue  # its account may write what it likes into its key, but stops nobody
            for answers, said in zip(found, reply, strict=True):
                if said is not None:
                    answers[rp.name] = text_of(said)
        return list(found)
