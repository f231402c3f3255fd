"""The thread that takes failures from the queue, counts them in Redis and bans whoever reached the limit.

Redis away costs nothing but time: failures stay in the journal until they are counted or too old to count.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time

from receiver.counts import Counts, expired
from receiver.failures import Failure, unpack
from receiver.journal import Journal, Slot
from receiver.ledger import Ledger
from receiver.verdict import Verdict, decide
from shared.durations import Milliseconds
from shared.errors import StoreError
from shared.logs import Sparingly
from shared.settings import Settings
from shared.urgency import be_quick

#: Failures counted in one round trip at most.
_BATCH = 512

#: Longest rest after Redis failed, s; the first rests are shorter, and each is drawn at random below its limit.
_LONGEST_REST_S = 1.0

_log = logging.getLogger("pinban.receiver")


class Counter(threading.Thread):
    """Empties the slots that it is given; `more` wakes it."""

    def __init__(self, settings: Settings, journal: Journal, counts: Counts, ledger: Ledger) -> None:
        super().__init__(name="counter", daemon=True)
        self._settings = settings
        self._journal = journal
        self._counts = counts
        self._ledger = ledger
        self._rules = {name: counts.rule(name) for name in settings.rules.__struct_fields__}
        self._wake = threading.Condition()
        self._news = False
        self._deadline: float | None = None
        self._slots: list[Slot] = []
        self._own: Slot | None = None
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
        except StoreError as error:
            self._seldom.warning("store", "%s; failures wait", error)

    def _release(self, empty: list[Slot]) -> None:
        for slot in empty:
            with self._wake:
                self._slots.remove(slot)
            self._journal.release(slot)

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

    def _count(self, failures: list[Failure], now_ms: int) -> int:
        counted = self._counts.count(failures, now_ms)
        verdicts = [verdict for each in counted if (verdict := decide(each, self._rules[each.rule]))]
        bans = sum(self._ban(verdict) for verdict in verdicts)
        for each in counted:  # after the bans, which are in a hurry
            rule = self._rules[each.rule]
            rooms = _rooms(failures, each.network)
            self._sparingly.say(
                logging.INFO, "failure", "failure %s: %s, %d of %d in %s",
                each.network, rooms, each.count, rule.maxretry, rule.findtime,
            )  # fmt: skip
        return bans

    def _ban(self, verdict: Verdict) -> bool:
        facts = [dict(zip(("id", "rp", "alias", "at"), each.split(" "), strict=False)) for each in verdict.evidence]
        node = self._settings.receiver.node
        recorded = self._ledger.ban(verdict.network, verdict.bantime_ms, verdict.rule, json.dumps(facts), node)
        self._counts.forget(verdict.network, self._rules)
        if recorded.new:
            _log.warning("banned %s for %s by rule %s, ban number %d of this address",
                         verdict.network, Milliseconds(verdict.bantime_ms), verdict.rule, recorded.strikes)  # fmt: skip
        return recorded.new


def _rooms(failures: list[Failure], network: str) -> str:
    aliases = sorted({failure.alias for failure in failures if failure.network == network})
    more = f" and {len(aliases) - 3} more" if len(aliases) > 3 else ""
    return f"wrong PIN for {', '.join(aliases[:3])}{more}"
