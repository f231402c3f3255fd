"""Writing the ledger in Redis: bans, unbans, beats. Each is one script, so each happens whole or not at all."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import redis

from shared.addresses import Network
from shared.keys import Keys
from shared.settings import Settings
from shared.store import lua, translated

#: A beat silences the other receivers for this long, ms. They ask every second, so beats come every two.
BEAT_MARK_MS = 1_500

#: How long after its ban's end a strike is remembered, ms.
STRIKES_KEPT_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the ledger says after a ban was asked for."""

    new: bool  #: False when the network was banned already and stays so
    until_ms: int  #: end of the ban, Redis TIME
    strikes: int  #: bans so far, this one included


class Ledger:
    """The ledger of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._keys = Keys(settings.redis.prefix)
        self._ban = client.register_script(lua("receiver", "ban"))
        self._unban = client.register_script(lua("receiver", "unban"))
        self._beat = client.register_script(lua("receiver", "beat"))

    def prepare(self) -> None:
        """Have Redis know the scripts before they are needed."""
        with translated(self._settings):
            for script in (self._ban, self._unban, self._beat):
                self._client.script_load(script.script)

    def ban(  # the facts of a ban, each once
        self, network: Network, bantime_ms: int, rule: str, evidence: str, by: str, *, lengthen: bool = False
    ) -> Recorded:
        """Ban the network from now on. A standing ban stays as it is, or becomes longer if asked, never shorter."""
        arguments: list[str | int] = [
            network,
            bantime_ms,
            rule,
            evidence,
            by,
            self._keys.channel,
            _epoch(),
            STRIKES_KEPT_MS,
        ]
        with translated(self._settings):
            new, until_ms, strikes = self._ban(self._ledger_keys(network), [*arguments, "1" if lengthen else ""])
        return Recorded(bool(new), int(until_ms), int(strikes))

    def unban(self, network: Network, why: str, by: str) -> bool:
        """End the network's ban, on every RP; False when the ledger had none."""
        with translated(self._settings):
            return bool(self._unban(self._ledger_keys(network), [network, why, by, self._keys.channel, _epoch()]))

    def beat(self, by: str) -> bool:
        """Publish a beat if one is due; whether this call was the one that did."""
        keys = [self._keys.beat, self._keys.epoch, self._keys.rev, self._keys.bans]
        with translated(self._settings):
            return bool(self._beat(keys, [by, BEAT_MARK_MS, self._keys.channel, _epoch()]))

    def _ledger_keys(self, network: Network) -> list[str]:
        keys = self._keys
        return [keys.bans, keys.ban(network), keys.strikes(network), keys.rev, keys.epoch, keys.history]


def _epoch() -> str:
    """What a ledger that has no epoch yet is called from now on."""
    return secrets.token_hex(8)
