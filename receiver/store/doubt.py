"""Doubts a sender whose lines led to too many bans in a minute, for a while.

Nothing proves who wrote a log line. An attacker who forges lines can have any address banned; this limits how many.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from shared.addresses import Network
from shared.logs import Sparingly
from shared.settings import Receiver
from shared.store import Store, scored, text_of

_log = logging.getLogger("pinban.receiver")


class Doubt:
    """Whom one deployment doubts; all receivers count together. Every method raises StoreError, is safe to repeat."""

    def __init__(self, store: Store, settings: Receiver) -> None:
        self._settings = settings
        self._store = store
        self._keys = store.keys
        self._weigh = store.script("receiver.store", "weigh")
        self._trust = store.script("receiver.store", "trust")
        self._sparingly = Sparingly(_log, every_s=10.0)

    def trips(self, network: Network, senders: Iterable[str]) -> bool:
        """Whether a ban of the network must only be simulated, because one of these senders is doubted.

        The ban counts for each of them, a network once a minute. One doubted sender is enough.
        """
        most, length = self._settings.doubt_above, self._settings.doubt_for
        named = sorted(set(senders))
        if not most or not named:
            return False
        keys = [self._keys.doubted, self._keys.history, *(self._keys.sender(sender) for sender in named)]
        fresh, known = self._weigh(keys, [network, most, int(length), self._settings.node, *named])
        for sender in fresh:
            name = text_of(sender)
            _log.error(
                "doubt: more than %d bans in a minute by lines of %s; they ban nobody until it was quiet for %s. "
                "Are they forged, or is it a botnet? see `pinban bans`; `pinban trust %s` ends the doubt",
                most, name, length, name,
            )  # fmt: skip
        if known:
            self._sparingly.say(logging.ERROR, "doubt", "doubt: %s is doubted; bans by its lines are only simulated",
                                ", ".join(map(text_of, known)))  # fmt: skip
        return bool(fresh or known)

    def doubted(self) -> dict[str, int]:
        """The senders that are doubted, each with the ms until it is trusted again, if it is quiet."""
        now_ms = self._store.now_ms()
        reply = self._store.call("ZRANGE", self._keys.doubted, now_ms, "+inf", "BYSCORE", "WITHSCORES")
        return {text_of(sender): until_ms - now_ms for sender, until_ms in scored(reply)}

    def trust(self, sender: str, by: str) -> bool:
        """End the doubt about a sender; False when it was trusted already."""
        keys = [self._keys.doubted, self._keys.history, self._keys.sender(sender)]
        return bool(self._trust(keys, [sender, by]))
