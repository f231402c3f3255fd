"""Every change of the ledger in Redis, one script each, so that each happens whole or not at all."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from shared.addresses import Network, NetworkSet
from shared.errors import BadDataError
from shared.ledger.allow import read_allow
from shared.store import Store

#: No other heartbeat is sent for this long, ms. Receivers ask every second, so one comes about every two seconds.
HEARTBEAT_MARK_MS = 1_500

#: How long after its ban's end a strike is remembered, ms.
STRIKES_KEPT_MS = 7 * 86_400_000


@dataclass(frozen=True, slots=True)
class NewBan:
    """A ban to be recorded."""

    network: Network
    bantime_ms: int
    rule: str  #: the rule it broke
    evidence: str  #: JSON, for people
    by: str  #: who bans
    strikes_kept_ms: int = STRIKES_KEPT_MS
    simulate: bool = False


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the ledger says after a ban was asked for."""

    new: bool  #: False when the network was banned already and stays so
    until_ms: int  #: end of the ban, Redis TIME
    strikes: int  #: bans so far, this one included


class Ledger:
    """The ledger of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.keys
        self._ban = store.script("shared.ledger", "epoch", "ban")
        self._unban = store.script("shared.ledger", "epoch", "unban")
        self._heartbeat = store.script("shared.ledger", "epoch", "heartbeat")
        self._allow = store.script("shared.ledger", "epoch", "allow")
        self._heat = store.script("shared.ledger", "epoch", "heat")
        self._ask = store.script("shared.ledger", "epoch", "ask")

    def ban(self, ban: NewBan, *, lengthen: bool = False) -> Recorded:
        """Ban a network from now on. A standing ban stays as it is, or becomes longer if asked, never shorter."""
        keys = self._ledger_keys(ban.network)
        mode = "lengthen" if lengthen else ""
        if ban.simulate:
            keys[:2] = [self._keys.simulated, self._keys.simulation(ban.network)]
            mode = "simulate"
        facts: list[str | int] = [ban.network, ban.bantime_ms, ban.rule, ban.evidence, ban.by]
        rest: list[str | int] = [self._keys.channel, _epoch(), ban.strikes_kept_ms, mode]
        new, until_ms, strikes = self._ban(keys, facts + rest)
        return Recorded(bool(new), int(until_ms), int(strikes))

    def is_allowed(self, network: Network) -> bool:
        """Whether the central allow-list, as it is now, has the network or a part of it."""
        entries, _ = read_allow(self._store)
        return bool(entries) and NetworkSet(entry.network for entry in entries).overlaps(network)

    def strikes(self, network: Network) -> int:
        """How often the network was banned before, as far as that is remembered; 0 when the key holds no number."""
        try:
            held = self._store.call("GET", self._keys.strikes(network)) or b"0"
        except BadDataError:
            return 0
        return int(held) if held.isdigit() and len(held) < 10 else 0

    def unban(self, network: Network, why: str, by: str) -> bool:
        """End the network's ban, on every RP; False when the ledger had none."""
        return bool(self._unban(self._ledger_keys(network), [network, why, by, self._keys.channel, _epoch()]))

    def heartbeat(self, by: str) -> bool:
        """Publish a heartbeat if one is due; whether this call was the one that did."""
        keys = [self._keys.heartbeat, self._keys.epoch, self._keys.rev, self._keys.bans]
        return bool(self._heartbeat(keys, [by, HEARTBEAT_MARK_MS, self._keys.channel, _epoch()]))

    def heat(self, room: str, for_ms: int, failures: int, addresses: int, by: str) -> bool:
        """Declare a room hot; False when it was hot already."""
        keys = [self._keys.hot, self._keys.epoch, self._keys.rev, self._keys.history]
        return bool(self._heat(keys, [room, for_ms, failures, addresses, by, self._keys.channel, _epoch()]))

    def ask(self, questions: Sequence[tuple[str, int, str]]) -> int:
        """Ask every enforcer about networks: each with the age of the first failure in question, ms, and the question's
        id. Returns how many have heard it, enforcers and others.
        """
        words = [word for question in questions for word in question]
        return int(self._ask([self._keys.epoch, self._keys.rev], [self._keys.channel, _epoch(), *words]))

    def hot_rooms(self) -> frozenset[str]:
        """The rooms that are hot now."""
        rooms = self._store.call("ZRANGE", self._keys.hot, self._store.now_ms(), "+inf", "BYSCORE")
        return frozenset(room.decode("utf-8", "replace") for room in rooms)

    def allow(self, network: Network, entry: str, lift: Sequence[Network], by: str) -> tuple[int, bool]:
        """Put a network on the allow-list, or take it off with an empty entry.

        `lift` are the banned networks that it overlaps. Returns how many bans were lifted, whether the list changed.
        """
        keys = [self._keys.bans, self._keys.allow, self._keys.rev, self._keys.epoch, self._keys.history]
        for banned in lift:
            keys += [self._keys.ban(banned), self._keys.strikes(banned)]
        lifted, changed = self._allow(keys, [network, entry, by, self._keys.channel, _epoch(), *lift])
        return int(lifted), bool(changed)

    def _ledger_keys(self, network: Network) -> list[str]:
        keys = self._keys
        return [keys.bans, keys.ban(network), keys.strikes(network), keys.rev, keys.epoch, keys.history]


def _epoch() -> str:
    """What a new epoch begins with."""
    return secrets.token_hex(4)
