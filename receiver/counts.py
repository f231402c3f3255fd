"""Counting failures in Redis: many addresses, one round trip, and the same failure twice counts once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import redis

from receiver.failures import Counted, Failure
from shared.addresses import Network
from shared.keys import Keys
from shared.settings import Rule, Settings
from shared.store import lua, translated


class Counts:
    """The counters of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._keys = Keys(settings.redis.prefix)
        self._script = lua("receiver", "count")
        self._sha = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()

    def prepare(self) -> None:
        """Have Redis know the script before it is needed."""
        with translated(self._settings):
            self._client.script_load(self._script)

    def count(self, failures: Iterable[Failure], now_ms: int) -> list[Counted]:
        """Count failures and tell where each address stands; one round trip.

        `now_ms` is by the same clock as Failure.received_ms: a failure that had to wait counts with its age.
        """
        together: dict[tuple[Network, str], list[Failure]] = {}
        for failure in failures:
            together.setdefault((failure.network, failure.rule), []).append(failure)
        calls = [self._call(network, rule, some, now_ms) for (network, rule), some in together.items()]
        with translated(self._settings):
            replies = self._send(calls)
            if any(isinstance(reply, redis.exceptions.NoScriptError) for reply in replies):
                self._client.script_load(self._script)
                replies = self._send(calls)  # whole: what was counted already counts no second time
            for reply in replies:
                if isinstance(reply, Exception):
                    raise reply
        return [_counted(key, reply) for key, reply in zip(together, replies, strict=True)]

    def forget(self, network: Network, rules: Iterable[str]) -> None:
        """Start the counts of an address from zero."""
        keys = [name(network, rule) for rule in rules for name in (self._keys.count, self._keys.window)]
        with translated(self._settings):
            self._client.delete(*keys)

    def rule(self, name: str) -> Rule:
        """The rule of this name."""
        rule: Rule = getattr(self._settings.rules, name)
        return rule

    def _call(self, network: Network, rule: str, failures: Sequence[Failure], now_ms: int) -> list[str | int]:
        limits = self.rule(rule)
        call: list[str | int] = [self._keys.count(network, rule), self._keys.window(network, rule)]
        call += [int(limits.findtime), limits.maxretry]
        for failure in failures:
            call += [failure.id, failure.evidence, max(now_ms - failure.received_ms, 0)]
        return call

    def _send(self, calls: Sequence[Sequence[str | int]]) -> list[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for call in calls:
            pipeline.evalsha(self._sha, 2, *call)
        return pipeline.execute(raise_on_error=False)


def _counted(key: tuple[Network, str], reply: Sequence[Any]) -> Counted:
    count, *window = reply
    pairs = zip(window[::2], window[1::2], strict=True)
    return Counted(*key, int(count), tuple(f"{member.decode()} {int(float(ms))}" for member, ms in pairs))


def expired(failures: Iterable[Failure], rules: Mapping[str, Rule], now_ms: int) -> list[bool]:
    """For each failure whether it waited longer than its rule's findtime and so counts no more. Pure."""
    return [now_ms - failure.received_ms >= rules[failure.rule].findtime for failure in failures]
