"""Addresses that get through although they are banned: what the kernels drop does not stop them. Bans nobody.

A failure is no such leak because it is counted after the ban: a guess that was under way is logged when it is answered.
So a leak is a request that began after the ban, when the ban must have been in every kernel; and two of them, because
one may have waited in a socket.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from receiver.failures import Failure
from shared.addresses import Network, wider
from shared.durations import Milliseconds
from shared.errors import StoreError
from shared.settings import Settings
from shared.store import Store, Word, number, scored, text_of

#: A request that began so long after a ban should not have come through, ms.
_LATE_MS = 3_000

#: Two such requests began so far apart, ms: what had waited in one socket came to us at one time.
_APART_MS = 1_000

#: How long a request took at most whose line does not say it, ms: nginx's proxy_read_timeout.
_LONGEST_MS = 60_000

#: How long such a request is remembered, and how long a leak is told after the last one, ms.
_KEPT_MS, _TOLD_MS = 120_000, 60_000

#: Most leaks that are remembered.
_MOST = 100

#: Redis' clock that is by more than this not where it should be was set, ms.
_STEP_MS = 1_000

#: From the answer to a call that took longer than this, ms, no clock is learnt.
_SLOW_MS = 500

#: The likely causes, each of which docs/operating.md explains.
_WHY = (
    "our rules do not drop its packets there. Is a load balancer in front (then the packets have its address), is the "
    "port not in enforcer.ports or redirected to another one, is it HTTP/3 (UDP), does another rule accept first, or "
    "does that RP have no running enforcer? See 'Banned, but not dropped' in docs/operating.md. "
    "Forged log lines look the same"
)

#: How often the log tells about one sender, s, and how many senders it can know.
_TELL_EVERY_S, _SENDERS = 60.0, 256

_log = logging.getLogger("pinban.receiver")


@dataclass(frozen=True, slots=True)
class Leak:
    """A banned network that gets through."""

    sender: str  #: who sent the lines: an RP's address, or "local"
    network: Network  #: as it is banned
    after_ms: int  #: from the ban until it was seen last


class Leaks:
    """The leaks of one deployment. Every method raises StoreError and is safe to repeat."""

    def __init__(self, store: Store, settings: Settings) -> None:
        self._store = store
        self._keys = store.keys
        self._bans = {name for name, rule in settings.rules.items() if not rule.simulate}
        self._leak = store.script("receiver.store", "leak")
        self._ahead_ms: int | None = None  #: Redis' clock minus this host's; the first call only learns it
        self._judged_after_ms = 0  #: Redis' clock was set at this time: an older ban may be of any age
        self._told: dict[str, float] = {}  #: when the log may tell about a sender again, s

    def note(self, failures: Iterable[Failure], now_ms: int) -> list[Leak]:
        """Note and log the leaks among failures that were counted, in one round trip.

        `now_ms` is by the same clock as Failure.received_ms.
        """
        ages: dict[tuple[str, Network], int] = {}
        for failure in failures:
            if failure.rule in self._bans and not failure.joined:
                age_ms = max(now_ms - failure.received_ms, 0) + _took_ms(failure)
                for network in (failure.network, *(wider(failure.network, length) for length in failure.levels)):
                    pair = failure.rp, network
                    ages[pair] = min(ages.get(pair, age_ms), age_ms)
        found = self._ask(ages, now_ms) if ages else []
        self._tell(found)
        return found

    def standing(self) -> list[Leak]:
        """The leaks of the last minute, of bans that stand; the longest after its ban first."""
        now_ms = self._store.now_ms()
        reply = self._store.call("ZRANGE", self._keys.leaks, now_ms - _TOLD_MS, now_ms, "BYSCORE", "WITHSCORES")
        seen = [(*text_of(member).partition(" ")[::2], seen_ms) for member, seen_ms in scored(reply)]
        bans = self._store.each(
            [
                command
                for _, network, _ in seen
                for command in (
                    ("ZSCORE", self._keys.bans, network),
                    ("HGET", self._keys.ban(Network(network)), "since"),
                )
            ]
        )
        found = []
        for (sender, network, seen_ms), until, since in zip(seen, bans[::2], bans[1::2], strict=True):
            if until is None or since is None or isinstance(until, StoreError) or isinstance(since, StoreError):
                continue
            if float(until) > now_ms and 0 < (since_ms := number(since)) < seen_ms:
                found.append(Leak(sender, Network(network), seen_ms - since_ms))
        return sorted(found, key=lambda leak: -leak.after_ms)

    def _ask(self, ages: dict[tuple[str, Network], int], now_ms: int) -> list[Leak]:
        keys = [self._keys.leaks, self._keys.suspects, self._keys.bans]
        clock_ms = now_ms + (self._ahead_ms or 0)
        arguments: list[Word] = [clock_ms, _STEP_MS, self._judged_after_ms, _LATE_MS, _APART_MS, _KEPT_MS, _MOST]
        for (sender, network), age_ms in ages.items():
            keys.append(self._keys.ban(network))
            arguments += [sender, network, age_ms]
        asked = time.monotonic()
        redis_ms, *words = self._leak(keys, arguments)
        if (time.monotonic() - asked) * 1_000 < _SLOW_MS:
            if self._ahead_ms is not None and abs(redis_ms - clock_ms) > _STEP_MS:
                self._judged_after_ms = redis_ms
            self._ahead_ms = redis_ms - now_ms
        return [
            Leak(text_of(sender), Network(text_of(network)), int(after_ms))
            for sender, network, after_ms in zip(words[::3], words[1::3], words[2::3], strict=True)
        ]

    def _tell(self, leaks: Sequence[Leak]) -> None:
        now = time.monotonic()
        due = [leak for leak in leaks if self._told.get(leak.sender, 0.0) <= now]
        if len(self._told) > _SENDERS:
            self._told.clear()
        self._told |= {leak.sender: now + _TELL_EVERY_S for leak in due}
        for text in explained(due):
            _log.error("%s", text)


def explained(leaks: Iterable[Leak]) -> list[str]:
    """What an operator has to know, a sentence for each sender. Pure."""
    by_sender: dict[str, list[Leak]] = {}
    for leak in leaks:
        by_sender.setdefault(leak.sender, []).append(leak)
    return [
        f"{some[0].network} still gets through {sender}, {_rounded(some[0].after_ms)} after its ban"
        f"{f' (and {len(some) - 1} more)' if len(some) > 1 else ''}: {_WHY}"
        for sender, some in by_sender.items()
    ]


def _took_ms(failure: Failure) -> int:
    return failure.took_ms if failure.took_ms >= 0 else _LONGEST_MS


def _rounded(duration_ms: int) -> Milliseconds:
    return Milliseconds(duration_ms // 1_000 * 1_000)
