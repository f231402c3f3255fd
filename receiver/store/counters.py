"""Counting failures in Redis: many addresses, one round trip, and the same failure twice counts once."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import redis

from receiver.failures import Counted, Failure
from shared.addresses import Network
from shared.settings import LONG, Rule, Settings, Window
from shared.store import Keys, Script, lua, translated

#: What is counted together: one address in one window of one rule.
_Group = tuple[Network, Window]


class Counts:
    """The counters of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._keys = Keys(settings.redis.prefix)
        self._count = Script(client, lua("receiver.store", "count"), keys=2)
        self._forgive = client.register_script(lua("receiver.store", "forgive"))
        self._reset = client.register_script(lua("receiver.store", "reset"))

    def prepare(self) -> None:
        """Have Redis know the script before it is needed."""
        with translated(self._settings):
            self._count.load()

    def count(self, failures: Iterable[Failure], now_ms: int, hot: Collection[str] = ()) -> list[Counted]:
        """Count failures and tell where each address stands, in each window of each rule; one round trip.

        `now_ms` is by the same clock as Failure.received_ms: a failure that had to wait counts with its age. For
        failures on rooms that are `hot` the evidence is told from rooms.hot_maxretry on.
        """
        together: dict[_Group, list[Failure]] = {}
        for failure in failures:
            for window in self.rule(failure.rule).windows(failure.rule):
                together.setdefault((failure.network, window), []).append(failure)
        calls = [self._call(network, window, some, now_ms, hot) for (network, window), some in together.items()]
        with translated(self._settings):
            replies = self._count(calls)  # what was counted already counts no second time
        return [_counted(group, reply) for group, reply in zip(together, replies, strict=True)]

    def reset(self, network: Network, rules: Iterable[str], *, long: bool) -> None:
        """Count an address from zero, without `long` only in the first windows; what it did stays known."""
        with translated(self._settings):
            self._reset(self._names(network, rules, long=long))

    def forget(self, network: Network, rules: Iterable[str]) -> None:
        """Know nothing of an address any more."""
        with translated(self._settings):
            self._client.delete(*self._names(network, rules, long=True))

    def forgive(self, joined: Failure, most: int) -> None:
        """Take back failures of an address on the room that it has now joined, so many at most."""
        for window in self.rule(joined.rule).windows(joined.rule):
            keys = [self._keys.count(joined.network, window.name), self._keys.window(joined.network, window.name)]
            keys.append(self._keys.forgiven(joined.network, window.name, joined.id))
            with translated(self._settings):
                self._forgive(keys, [joined.alias, most, window.findtime_ms])

    def rule(self, name: str) -> Rule:
        """The rule of this name, or of this window's name."""
        return self._settings.rules[name.removesuffix(LONG)]

    def _names(self, network: Network, rules: Iterable[str], *, long: bool) -> list[str]:
        names = [name for rule in rules for name in ((rule, rule + LONG) if long else (rule,))]
        return [key(network, name) for name in names for key in (self._keys.count, self._keys.window)]

    def _call(
        self, network: Network, window: Window, failures: Sequence[Failure], now_ms: int, hot: Collection[str]
    ) -> list[str | int]:
        tell = window.maxretry
        if window.name == "pin" and any(failure.alias in hot for failure in failures):
            tell = min(tell, self._settings.rooms.hot_maxretry)
        call: list[str | int] = [self._keys.count(network, window.name), self._keys.window(network, window.name)]
        call += [window.findtime_ms, window.maxretry, tell]
        for failure in failures:
            call += [failure.id, failure.evidence, max(now_ms - failure.received_ms, 0)]
        return call


def _counted(group: _Group, reply: Sequence[Any]) -> Counted:
    network, window = group
    count, *members = reply
    pairs = zip(members[::2], members[1::2], strict=True)
    return Counted(network, window.name, int(count), tuple(f"{m.decode()} {int(float(ms))}" for m, ms in pairs))


def expired(failures: Iterable[Failure], rules: Mapping[str, Rule], now_ms: int) -> list[bool]:
    """For each failure whether it waited longer than any window of its rule, or has no rule any more. Pure."""
    longest = {name: max(w.findtime_ms for w in rule.windows(name)) for name, rule in rules.items()}
    return [now_ms - failure.received_ms >= longest.get(failure.rule, 0) for failure in failures]
