"""Doubts a sender whose lines led to too many bans in a minute, for a while.

Nothing proves who wrote a log line. An attacker who forges lines can have any address banned; this limits how many.
Bans by a doubted sender's lines need a witness: receiver/hearing.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from receiver.testimony import Belief
from shared.addresses import Network
from shared.errors import StoreError
from shared.settings import Receiver
from shared.store import Command, Store, number, scored, text_of

_log = logging.getLogger("pinban.receiver")


@dataclass(frozen=True, slots=True)
class Weighed:
    """Whom we doubt of the senders of a ban's evidence."""

    doubted: frozenset[str]
    now_ms: int  #: Redis TIME


#: When nobody is doubted.
TRUSTED = Weighed(frozenset(), 0)


class Doubt:
    """Whom one deployment doubts; all receivers count together. Every method raises StoreError, is safe to repeat."""

    def __init__(self, store: Store, settings: Receiver) -> None:
        self._settings = settings
        self._store = store
        self._keys = store.keys
        self._weigh = store.script("receiver.store", "weigh")
        self._trust = store.script("receiver.store", "trust")

    def weigh(self, network: Network, senders: Iterable[str]) -> Weighed:
        """Count a ban of the network, which has lines of these senders in its evidence, and tell whom of them we doubt.

        The ban counts for each of them, a network once a minute.
        """
        most, length = self._settings.doubt_above, self._settings.doubt_for
        named = sorted({sender for sender in senders if not is_own(sender)})
        if not most or not named:
            return TRUSTED
        keys = [self._keys.doubted, self._keys.history, *(self._keys.sender(sender) for sender in named)]
        fresh, known, now_ms = self._weigh(keys, [network, most, int(length), self._settings.node, *named])
        for sender in fresh:
            name = text_of(sender)
            _log.error(
                "doubt: more than %d bans in a minute by lines of %s; until it was quiet for %s, they ban only whom an "
                "enforcer sees connected. Are they forged, or is it a botnet? see `pinban status` and `pinban bans`; "
                "`pinban trust %s` ends the doubt", most, name, length, name,
            )  # fmt: skip
        return Weighed(frozenset(text_of(sender) for sender in (*fresh, *known)), int(now_ms))

    def note(self, senders: Iterable[str], belief: Belief) -> None:
        """Remember what became of a ban by lines of these doubted senders, for the operator."""
        commands: list[Command] = []
        for sender in sorted(senders):
            key = self._keys.judged(sender)
            commands += [("HINCRBY", key, belief.name.lower(), 1), ("PEXPIRE", key, int(self._settings.doubt_for))]
        self._store.together(commands)

    def judged(self, senders: Iterable[str]) -> dict[str, dict[str, int]]:
        """What became of the bans by lines of these senders since they are doubted: how many were real, forged,
        unknown.
        """
        named = list(senders)
        replies = self._store.each([("HGETALL", self._keys.judged(sender)) for sender in named]) if named else []
        return {
            sender: {text_of(name): number(count) for name, count in reply.items()}
            for sender, reply in zip(named, replies, strict=True)
            if not isinstance(reply, StoreError)
        }

    def doubted(self) -> dict[str, int]:
        """The senders that are doubted, each with the ms until it is trusted again, if it is quiet."""
        now_ms = self._store.now_ms()
        reply = self._store.call("ZRANGE", self._keys.doubted, now_ms, "+inf", "BYSCORE", "WITHSCORES")
        return {text_of(sender): until_ms - now_ms for sender, until_ms in scored(reply)}

    def trust(self, sender: str, by: str) -> bool:
        """End the doubt about a sender; False when it was trusted already."""
        keys = [self._keys.doubted, self._keys.history, self._keys.sender(sender), self._keys.judged(sender)]
        return bool(self._trust(keys, [sender, by]))


def is_own(sender: str) -> bool:
    """Whether lines of the sender can only come from this host: by a unix socket, or from the loopback."""
    return sender == "local" or sender.startswith("127.") or sender == "::1"
