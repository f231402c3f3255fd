"""Counts failures in Redis: many addresses in one round trip; a failure that comes twice counts once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from receiver.failures import Counted, Failure, room_of
from shared.addresses import Network
from shared.errors import BadDataError
from shared.logs import Sparingly
from shared.settings import LONG, Rule, Settings, Window
from shared.store import Store, Word, text_of

_log = logging.getLogger("pinban.receiver")

#: What is counted together: one address in one window of one rule.
_Group = tuple[Network, Window]


class Counters:
    """The counters of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._keys = store.keys
        self._store = store
        self._rules = settings.rules
        self._hot_maxretry = settings.rooms.hot_maxretry
        self._sparingly = Sparingly(_log, every_s=10.0)
        self._count = store.script("receiver.store", "count")
        self._forgive = store.script("receiver.store", "forgive")
        self._reset = store.script("receiver.store", "reset")

    def count(self, failures: Iterable[Failure], now_ms: int, hot: Collection[str] = ()) -> list[Counted]:
        """Count failures, in one round trip; returns the count of each address in each window of its rule.

        `now_ms` is by the same clock as Failure.received_ms: a failure that had to wait counts with its age. The
        evidence comes with a count at the limit; for failures on `hot` rooms, from rooms.hot_maxretry on.
        """
        together: dict[_Group, list[Failure]] = {}
        for failure in failures:
            for window in self.rule(failure.rule).windows(failure.rule):
                together.setdefault((failure.network, window), []).append(failure)
        calls = [self._call(network, window, some, now_ms, hot) for (network, window), some in together.items()]
        replies = self._count.many(calls) if calls else []  # safe after an error: no failure counts twice
        found = []
        for group, call, reply in zip(together, calls, replies, strict=True):
            told = self._repaired(group, call, reply) if isinstance(reply, BadDataError) else reply
            found.append(_counted(group, told))
        return found

    def _repaired(self, group: _Group, call: tuple[list[str], list[Word]], why: BadDataError) -> Any:
        """Count where a person put something else into a key of ours: it must neither stop others nor hide this one."""
        network, window = group
        self._sparingly.warning("data", "deleted the counter %s of %s: %s", window.name, network, why)
        self._store.call("DEL", *call[0])
        return self._count(*call)

    def reset(self, network: Network, rules: Iterable[str], *, long: bool) -> None:
        """Count an address from zero; in the long windows only with `long`. No old failure can count again."""
        self._reset(self._names(network, rules, long=long), ())

    def forget(self, network: Network, rules: Iterable[str]) -> None:
        """Delete the counters of an address, and the failures in them."""
        self._store.call("DEL", *self._names(network, rules, long=True))

    def forgive(self, joined: Failure, most: int) -> None:
        """Take back failures of an address on the room that it has now joined, `most` at most."""
        for window in self.rule(joined.rule).windows(joined.rule):
            keys = [self._keys.count(joined.network, window.name), self._keys.window(joined.network, window.name)]
            keys.append(self._keys.forgiven(joined.network, window.name, joined.id))
            self._forgive(keys, [joined.alias, most, window.findtime_ms])

    def rule(self, name: str) -> Rule:
        """The rule of this name, or of this window's name."""
        return self._rules[name.removesuffix(LONG)]

    def _names(self, network: Network, rules: Iterable[str], *, long: bool) -> list[str]:
        names = [name for rule in rules for name in ((rule, rule + LONG) if long else (rule,))]
        return [key(network, name) for name in names for key in (self._keys.count, self._keys.window)]

    def _call(
        self, network: Network, window: Window, failures: Sequence[Failure], now_ms: int, hot: Collection[str]
    ) -> tuple[list[str], list[Word]]:
        tell = window.maxretry
        if window.name == "pin" and any(room_of(failure.alias) in hot for failure in failures):
            tell = min(tell, self._hot_maxretry)
        arguments: list[Word] = [window.findtime_ms, window.maxretry, tell]
        for failure in failures:
            arguments += [failure.id, failure.evidence, max(now_ms - failure.received_ms, 0)]
        return [self._keys.count(network, window.name), self._keys.window(network, window.name)], arguments


def _counted(group: _Group, reply: Sequence[Any]) -> Counted:
    network, window = group
    count, *members = reply
    pairs = zip(members[::2], members[1::2], strict=True)
    return Counted(network, window.name, int(count), tuple(f"{text_of(m)} {int(float(ms))}" for m, ms in pairs))


def expired(failures: Iterable[Failure], rules: Mapping[str, Rule], now_ms: int) -> list[bool]:
    """For each failure whether it waited longer than any window of its rule, or has no rule any more. Pure."""
    longest = {name: max(w.findtime_ms for w in rule.windows(name)) for name, rule in rules.items()}
    return [now_ms - failure.received_ms >= longest.get(failure.rule, 0) for failure in failures]
