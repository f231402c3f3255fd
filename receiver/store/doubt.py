"""Whose word is enough for a ban: a sender with too many bans in a minute is doubted for a while.

Log lines come unauthenticated. Whoever can forge them may ban whom they like, but by this not many.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import redis

from shared.addresses import Network
from shared.logs import Sparingly
from shared.settings import Settings
from shared.store import Keys, lua, now_ms, translated, understood

_log = logging.getLogger("pinban.receiver")


class Doubt:
    """The doubt of one deployment: all receivers count in Redis. Every method raises StoreError, safe to repeat."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._keys = Keys(settings.redis.prefix)
        self._weigh = client.register_script(lua("receiver.store", "weigh"))
        self._trust = client.register_script(lua("receiver.store", "trust"))
        self._client = client
        self._sparingly = Sparingly(_log, every_s=10.0)

    def prepare(self) -> None:
        """Have Redis know the script before it is needed."""
        with translated(self._settings):
            self._client.script_load(self._weigh.script)

    def trips(self, network: Network, senders: Iterable[str]) -> bool:
        """Whether a ban of the network, on the word of these senders, must not be more than simulated.

        The ban counts for each of them, once a minute, and one that is doubted only is enough.
        """
        most, length = self._settings.receiver.doubt_above, self._settings.receiver.doubt_for
        named = sorted(set(senders))
        if not most or not named:
            return False
        keys = [self._keys.doubted, self._keys.history, *(self._keys.sender(sender) for sender in named)]
        with translated(self._settings):
            fresh, known = self._weigh(keys, [network, most, int(length), self._settings.receiver.node, *named])
        for sender in fresh:
            name = sender.decode()
            _log.error(
                "doubt: more than %d bans in a minute on the word of %s; its lines ban nobody until it was quiet "
                "for %s. Forged, or a botnet? `pinban bans` tells, `pinban trust %s` ends it", most, name, length, name,
            )  # fmt: skip
        if known:
            self._sparingly.say(logging.ERROR, "doubt", "doubt: %s is doubted, bans by it are simulated",
                                b", ".join(known).decode())  # fmt: skip
        return bool(fresh or known)

    def doubted(self) -> dict[str, int]:
        """The senders that are doubted, each with the ms until it is trusted again, if it is quiet."""
        with understood(self._settings):
            now = now_ms(self._client)
            pipeline = self._client.pipeline(transaction=False)
            pipeline.zrange(self._keys.doubted, now, "inf", byscore=True, withscores=True)
            return {sender.decode(): int(until_ms) - now for sender, until_ms in pipeline.execute()[0]}

    def trust(self, sender: str, by: str) -> bool:
        """End the observation of a sender; False when it was trusted already."""
        keys = [self._keys.doubted, self._keys.history, self._keys.sender(sender)]
        with translated(self._settings):
            return bool(self._trust(keys, [sender, by]))
