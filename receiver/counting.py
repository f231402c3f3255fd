"""The thread that takes failures from the queue, counts them in Redis and bans whoever reached the limit.

Redis away costs nothing but time: failures stay in the spool until they are counted or too old to count.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from dataclasses import replace

from receiver.failures import Counted, Failure, unpack
from receiver.spool import Slot, Spool
from receiver.store import Counts, Doubt, Rooms, expired
from receiver.verdict import HOT, Verdict, bantime_ms, decide
from shared.durations import Milliseconds
from shared.errors import StoreError
from shared.host import be_quick
from shared.ledger import Ledger, NewBan
from shared.logs import Sparingly
from shared.settings import LONG, Rule, Settings

#: Failures counted in one round trip at most.
_BATCH = 512

#: Longest rest after Redis failed, s; the first rests are shorter, and each is drawn at random below its limit.
_LONGEST_REST_S = 1.0

_log = logging.getLogger("pinban.receiver")


class Counter(threading.Thread):
    """Empties the slots that it is given; `more` wakes it."""

    def __init__(
        self, settings: Settings, spool: Spool, counts: Counts, ledger: Ledger, rooms: Rooms, doubt: Doubt
    ) -> None:
        super().__init__(name="counter", daemon=True)
        self._settings = settings
        self._spool = spool
        self._counts = counts
        self._ledger = ledger
        self._rooms = rooms
        self._doubt = doubt
        self._rules = settings.rules
        self._wake = threading.Condition()
        self._news = False
        self._deadline: float | None = None
        self._slots: list[Slot] = []
        self._own: Slot | None = None
        self._unnoted: list[Failure] = []  #: for the rooms, when nothing urgent is left
        self._rest_s = 0.0
        self._sparingly = Sparingly(_log, burst=20)
        self._seldom = Sparingly(_log, every_s=5.0)
        self.moved_at = time.monotonic()  #: when the loop last came round, s

    def adopt(self, slot: Slot, *, own: bool = False) -> None:
        """Empty this slot too: our own, or one whose worker is gone; the latter is released when it is empty."""
        with self._wake:
            self._slots.append(slot)
            if own:
                self._own = slot
        self.more()

    def has(self, slot: Slot) -> bool:
        """Whether it empties this slot."""
        with self._wake:
            return slot in self._slots

    def more(self) -> None:
        """There are failures in a slot."""
        with self._wake:
            self._news = True
            self._wake.notify()

    def finish(self, within_s: float) -> None:
        """Count what is queued if that can be done in time, then end; what is left stays for another worker."""
        with self._wake:
            self._deadline = time.monotonic() + within_s
            self._wake.notify()
        self.join(within_s + 5.0)

    def run(self) -> None:
        """Count until told to finish."""
        be_quick()
        self._prepare()
        while True:
            self.moved_at = time.monotonic()
            with self._wake:
                slots = list(self._slots)
            busy = [slot for slot in slots if slot.waiting]
            done = all(self._empty(slot) for slot in busy)
            if not busy or len(self._unnoted) > _BATCH:
                self._note_rooms()
            self._release([slot for slot in slots if slot is not self._own and not slot.waiting])
            with self._wake:
                if self._deadline is not None and (not busy or time.monotonic() > self._deadline):
                    return
                if not done:
                    self._wake.wait(self._rest_s)
                elif not busy and not self._news:
                    self._wake.wait(1.0)
                self._news = False

    def _prepare(self) -> None:
        """Connect and load the scripts, so that the first failure need not wait for that."""
        try:
            self._counts.prepare()
            self._ledger.prepare()
            self._doubt.prepare()
        except StoreError as error:
            self._seldom.warning("store", "%s; failures wait", error)

    def _release(self, empty: list[Slot]) -> None:
        for slot in empty:
            with self._wake:
                self._slots.remove(slot)
            self._spool.release(slot)

    def _empty(self, slot: Slot) -> bool:
        """Count one batch of a slot; False when Redis failed and the batch stays."""
        head, records = slot.oldest(_BATCH)
        failures = [unpack(record) for record in records]
        now_ms = time.monotonic_ns() // 1_000_000
        late = expired(failures, self._rules, now_ms)
        due = [failure for failure, too_late in zip(failures, late, strict=True) if not too_late]
        try:
            bans = self._count(due, now_ms) if due else 0
        except StoreError as error:
            self._rest_s = random.uniform(0, min(max(2 * self._rest_s, 0.1), _LONGEST_REST_S))  # noqa: S311
            self._seldom.warning("store", "%s; %d failures wait", error, slot.waiting)
            return False
        self._rest_s = 0.0
        slot.settle(head, ["expired" if too_late else "counted" for too_late in late], bans)
        return True

    def _count(self, records: list[Failure], now_ms: int) -> int:
        failures = [failure for failure in records if not failure.joined]
        hot = self._rooms.hot
        counted = self._counts.count(failures, now_ms, hot) if failures else []
        bans = sum(self._judge(each, hot) for each in counted)
        for joined in records:
            if joined.joined:
                self._counts.forgive(joined, self._settings.rooms.forgive_on_join)
        self._unnoted += failures
        for each in counted:  # after the bans, which are in a hurry
            if not each.rule.endswith(LONG):
                rule = self._rules[each.rule]
                rooms = _rooms(failures, each.network)
                self._sparingly.say(
                    logging.INFO, "failure", "failure %s: rule %s, %d of %d in %s%s",
                    each.network, each.rule, each.count, rule.maxretry, rule.findtime, rooms,
                )  # fmt: skip
        return bans

    def _note_rooms(self) -> None:
        if not self._unnoted:
            return
        try:
            self._rooms.note(self._unnoted, time.monotonic_ns() // 1_000_000)
        except StoreError as error:  # the addresses count all the same
            self._seldom.warning("rooms", "%s; wrong PINs are missing from their rooms", error)
        self._unnoted = []

    def _judge(self, counted: Counted, hot: frozenset[str]) -> bool:
        rule = self._counts.rule(counted.rule)
        hot_maxretry = self._settings.rooms.hot_maxretry
        verdict = decide(counted, rule, hot=hot, hot_maxretry=hot_maxretry)
        if verdict is None or self._ledger.is_allowed(verdict.network):  # the ingest learns of it a second later
            return False
        self.moved_at = time.monotonic()  # many bans at once by a slow Redis take long, and are no standstill
        if rule.bantime_increment or rule.bantime_jitter:
            strikes = self._ledger.strikes(verdict.network) if rule.bantime_increment else 0
            length = bantime_ms(rule, strikes, random.random())  # noqa: S311
            verdict = replace(verdict, bantime_ms=length)
        return self._ban(verdict, rule)

    def _ban(self, verdict: Verdict, rule: Rule) -> bool:
        facts = [dict(zip(("id", "rp", "alias", "at"), each.split(" "), strict=False)) for each in verdict.evidence]
        evidence, node = json.dumps(facts), self._settings.receiver.node
        simulate = rule.simulate or self._doubt.trips(verdict.network, (fact["rp"] for fact in facts))
        recorded = self._ledger.ban(
            NewBan(verdict.network, verdict.bantime_ms, verdict.rule, evidence, node, int(rule.strikes_kept), simulate)
        )
        # Only simulated, it must not exempt anybody what the other rules have counted.
        forgotten = [verdict.rule.removesuffix(LONG).removesuffix(HOT)] if simulate else self._rules
        self._counts.reset(verdict.network, forgotten, long=verdict.rule.endswith(LONG))
        if recorded.new:
            self._sparingly.warning(
                "ban", "%s %s for %s by rule %s, ban number %d of this address",
                "would ban (simulated)" if simulate else "banned", verdict.network,
                Milliseconds(verdict.bantime_ms), verdict.rule, recorded.strikes + simulate,
            )  # fmt: skip
        return recorded.new and not simulate


def _rooms(failures: list[Failure], network: str) -> str:
    aliases = sorted({failure.alias for failure in failures if failure.network == network})
    more = f" and {len(aliases) - 3} more" if len(aliases) > 3 else ""
    return f"; room {', '.join(aliases[:3])}{more}" if any(aliases) else ""
