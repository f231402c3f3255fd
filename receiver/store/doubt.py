"""Whose word is enough for a ban: a sender with too many bans in a minute is doubted for a while.

Log lines come unauthenticated. Whoever can forge them may ban whom they like, but by this not many.
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
    """The doubt of one deployment: all receivers count in Redis. Every method raises StoreError, safe to repeat."""

    def __init__(self, store: Store, settings: Receiver) -> None:
        self._settings = settings
        self._store = store
        self._keys = store.keys
        self._weigh = store.script("receiver.store", "weigh")
        self._trust = store.script("receiver.store", "trust")
        self._sparingly = Sparingly(_log, every_s=10.0)

    def trips(self, network: Network, senders: Iterable[str]) -> bool:
        """Whether a ban of the network, on the word of these senders, must not be more than simulated.

        The ban counts for each of them, once a minute, and one that is doubted is enough.
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
                "doubt: more than %d bans in a minute on the word of %s; its lines ban nobody until it was quiet "
                "for %s. Forged, or a botnet? `pinban bans` tells, `pinban trust %s` ends it", most, name, length, name,
            )  # fmt: skip
        if known:
            self._sparingly.say(logging.ERROR, "doubt", "doubt: %s is doubted, bans by it are simulated",
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
