"""Counts failures in Redis: many networks in one round trip; a failure that comes twice counts once."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from receiver.failures import Counted, Failure, room_of
from shared.addresses import Network, is_ipv6, wider
from shared.errors import BadDataError
from shared.logs import Sparingly
from shared.settings import LONG, Level, Rule, Settings, Window
from shared.store import Store, Word, text_of

_log = logging.getLogger("pinban.receiver")


class _Group(NamedTuple):
    """What is counted together: one network in one window of one rule."""

    network: Network
    window: Window
    level: Level | None = None  #: of a network wider than one client's


class Counters:
    """The counters of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._keys = store.keys
        self._store = store
        self._rules = settings.rules
        self._levels = {
            (name, ipv6): [(level, Window(name, level.maxretry, int(rule.findtime))) for level in rule.wider(ipv6=ipv6)]
            for name, rule in settings.rules.items()
            for ipv6 in (True, False)
        }
        self._hot_maxretry = settings.rooms.hot_maxretry
        self._sparingly = Sparingly(_log, every_s=10.0)
        self._count = store.script("receiver.store", "numbered", "count")
        self._join = store.script("receiver.store", "join")
        self._forgive = store.script("receiver.store", "forgive")
        self._reset = store.script("receiver.store", "reset")

    def count(self, failures: Iterable[Failure], now_ms: int, hot: Collection[str] = ()) -> list[Counted]:
        """Count failures, in one round trip; returns the count of each network in each window of its rule.

        `now_ms` is by the same clock as Failure.received_ms: a failure that had to wait counts with its age. The
        evidence comes with a count at the limit; for failures on `hot` rooms, from rooms.hot_maxretry on.
        """
        together: dict[_Group, list[Failure]] = {}
        for failure in failures:
            for group in self._groups(failure):
                together.setdefault(group, []).append(failure)
        calls = [self._call(group, some, now_ms, hot) for group, some in together.items()]
        replies = self._count.many(calls) if calls else []  # safe after an error: no failure counts twice
        found = []
        for group, call, reply in zip(together, calls, replies, strict=True):
            told = self._repaired(group, call, reply) if isinstance(reply, BadDataError) else reply
            found.append(_counted(group, told))
        return found

    def _repaired(self, group: _Group, call: tuple[list[str], list[Word]], why: BadDataError) -> Any:
        """Count where a person put something else into a key of ours: it must neither stop others nor hide this one."""
        self._sparingly.warning("data", "deleted the counter %s of %s: %s", group.window.name, group.network, why)
        self._store.call("DEL", *call[0])
        return self._count(*call)

    def note_joins(self, joins: Iterable[Failure], now_ms: int) -> None:
        """Note in one round trip who joined from which wider networks: many people there may mistype."""
        together: dict[_Group, list[Failure]] = {}
        for join in joins:
            for group in self._wider(join):
                together.setdefault(group, []).append(join)
        calls: list[tuple[list[str], list[Word]]] = []
        for group, some in together.items():
            arguments: list[Word] = [group.window.findtime_ms, group.window.maxretry]
            for join in some:
                arguments += [join.network, max(now_ms - join.received_ms, 0)]
            calls.append(([self._keys.joined(group.network)], arguments))
        replies = self._join.many(calls) if calls else []
        for call, reply in zip(calls, replies, strict=True):
            if isinstance(reply, BadDataError):
                self._sparingly.warning("joined", "deleted %s: %s", call[0][0], reply)
                self._store.call("DEL", *call[0])
                self._join(*call)

    def joined(self, counted: Counted) -> int:
        """How many clients in a wider network have joined within findtime."""
        since = self._store.now_ms() - int(self.rule(counted.rule).findtime)
        try:
            return int(self._store.call("ZCOUNT", self._keys.joined(counted.network), f"({since}", "+inf"))
        except BadDataError:  # it must not protect a guesser
            return 0

    def reset(self, network: Network, rules: Iterable[str], *, long: bool) -> None:
        """Count a network from zero; in the long windows only with `long`. No old failure can count again."""
        names = _windows(rules, long=long)
        self._reset([key(network, name) for name in names for key in (self._keys.count, self._keys.window)], ())

    def forget(self, network: Network, rules: Iterable[str]) -> None:
        """Delete the counters of a network, and the failures in them."""
        keys = self._keys
        names = _windows(rules, long=True)
        self._store.call(
            "DEL", *(key(network, name) for name in names for key in (keys.count, keys.window, keys.copies))
        )

    def forgive(self, joined: Failure, most: int) -> None:
        """Take back failures of an address on the room that it has now joined, `most` at most."""
        for window in self.rule(joined.rule).windows(joined.rule):
            keys = [self._keys.count(joined.network, window.name), self._keys.window(joined.network, window.name)]
            keys.append(self._keys.forgiven(joined.network, window.name, joined.id))
            self._forgive(keys, [joined.alias, most, window.findtime_ms])

    def rule(self, name: str) -> Rule:
        """The rule of this name, or of this window's name."""
        return self._rules[name.removesuffix(LONG)]

    def _groups(self, failure: Failure) -> Iterator[_Group]:
        for window in self.rule(failure.rule).windows(failure.rule):
            yield _Group(failure.network, window)
        if failure.levels:
            yield from self._wider(failure)

    def _wider(self, failure: Failure) -> Iterator[_Group]:
        for level, window in self._levels[failure.rule, is_ipv6(failure.network)]:
            if level.length in failure.levels:
                yield _Group(wider(failure.network, level.length), window, level)

    def _call(
        self, group: _Group, failures: Sequence[Failure], now_ms: int, hot: Collection[str]
    ) -> tuple[list[str], list[Word]]:
        network, window, level = group
        keys = [self._keys.count(network, window.name), self._keys.window(network, window.name)]
        if any(failure.copy for failure in failures):  # a cluster that moves a slot is slow with keys that it lacks
            keys.append(self._keys.copies(network, window.name))
        kept = tell = window.maxretry
        share = 0
        if level is not None:
            share = -(-level.maxretry // 2)  # one network within it alone never has its neighbours banned
            kept = 2 * level.maxretry  # as far as joins may raise the limit
        elif window.name == "pin" and any(room_of(failure.alias) in hot for failure in failures):
            tell = min(tell, self._hot_maxretry)
        arguments: list[Word] = [window.findtime_ms, kept, tell, share]
        for failure in failures:
            evidence = failure.evidence if level is None else f"{_within(failure, level)} {failure.evidence}"
            arguments += [failure.id, failure.copy, evidence, max(now_ms - failure.received_ms, 0)]
        return keys, arguments


def _within(failure: Failure, level: Level) -> Network:
    """The network of the next narrower level around a client, or the client itself: whoever has all of it is one."""
    narrower = [length for length in failure.levels if length > level.length]
    return wider(failure.network, min(narrower)) if narrower else failure.network


def _windows(rules: Iterable[str], *, long: bool) -> list[str]:
    return [name for rule in rules for name in ((rule, rule + LONG) if long else (rule,))]


def _counted(group: _Group, reply: Sequence[Any]) -> Counted:
    count, *members = reply
    pairs = zip(members[::2], members[1::2], strict=True)
    evidence = tuple(f"{text_of(m)} {int(float(ms))}" for m, ms in pairs)
    return Counted(group.network, group.window.name, int(count), evidence, group.level)


def expired(failures: Iterable[Failure], rules: Mapping[str, Rule], now_ms: int) -> list[bool]:
    """For each failure whether it waited longer than any window of its rule, or has no rule any more. Pure."""
    longest = {name: max(w.findtime_ms for w in rule.windows(name)) for name, rule in rules.items()}
    return [now_ms - failure.received_ms >= longest.get(failure.rule, 0) for failure in failures]
