"""The thread that takes failures from the queues, counts them in Redis and bans addresses that reach a limit.

The most urgent go first. The policy is in receiver/verdict.py. While Redis is away failures wait in the spool; only
those that get too old to count, or for which their queue has no place, are lost.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import replace

from receiver.failures import Counted, Failure, unpack
from receiver.hearing import EVERY_S, Case, Hearing
from receiver.spool import Importance, Slot, Spool
from receiver.store import TRUSTED, Counters, Doubt, Leaks, Rooms, Weighed, Witnesses, expired
from receiver.testimony import Belief
from receiver.verdict import Circumstances, Verdict, age_ms, broken_rule, decide, senders
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.errors import BadDataError, ForbiddenError, StoreError, StoreFullError
from shared.host import be_quick
from shared.ledger import Ledger, NewBan
from shared.logs import Sparingly
from shared.settings import LONG, Settings
from shared.store import Store

#: Failures of each importance counted in one round trip at most. A wrong PIN waits at most for one batch of something
#: less, so those are small.
_BATCH = {Importance.URGENT: 512, Importance.ORDINARY: 128, Importance.LEAST: 64}

#: Wrong PINs to be noted for their rooms that wait at most, while failures wait.
_UNNOTED = 512

#: Longest pause after Redis failed, s. The first pauses are shorter, and each is a random part of its limit.
_LONGEST_REST_S = 1.0

_log = logging.getLogger("pinban.receiver")


class Counter(threading.Thread):
    """Counts the failures in the slots that it is given; `more` wakes it."""

    def __init__(self, settings: Settings, spool: Spool, store: Store, troubles: MutableMapping[str, str]) -> None:
        """`troubles` is told under "counting" why nothing is counted or somebody not banned, as long as that lasts, and
        under "forgiving" why a right PIN takes nothing back.
        """
        super().__init__(name="counter", daemon=True)
        self._troubles = troubles
        self._node = settings.receiver.node
        self._rules = settings.rules
        self._limits = settings.rooms
        self._spool = spool
        self._store = store
        self._counters = Counters(store, settings)
        self._ledger = Ledger(store)
        self._doubt = Doubt(store, settings.receiver)
        self._leaks = Leaks(store, settings)
        self._hearing = Hearing(Witnesses(store, self._ledger))
        self.rooms = Rooms(store, settings.rooms, self._ledger, self._node)
        self._wake = threading.Condition()
        self._news = False
        self._deadline: float | None = None
        self._slots: list[Slot] = []
        self._own: Slot | None = None
        self._unnoted: list[Failure] = []  #: to be noted once no failure waits
        self._bans = 0  #: made since the last batch was settled
        self._odd = ""  #: what a key of ours held that it should not, in the batch under way
        self._rest_s = 0.0
        self._sparingly = Sparingly(_log, burst=20)
        self._seldom = Sparingly(_log, every_s=5.0)
        self.moved_at = time.monotonic()  #: when the loop last came round, s

    def adopt(self, slot: Slot, *, own: bool = False) -> None:
        """Count the failures of this slot too. It is this worker's `own`, or a dead worker's: released when empty."""
        with self._wake:
            self._slots.append(slot)
            if own:
                self._own = slot
        self.more()

    def claim(self, slot: Slot) -> bool:
        """Lock a slot, to `adopt` it; False when another process has it, or when this thread counts it already."""
        with self._wake:
            return slot not in self._slots and self._spool.claim(slot)

    def learn_hot(self, rooms: frozenset[str]) -> None:
        """Replace the rooms that are hot by what Redis says now; may be called by another thread."""
        self.rooms.hot = rooms

    def more(self) -> None:
        """There are failures in a slot."""
        with self._wake:
            self._news = True
            self._wake.notify()

    def finish(self, within_s: float) -> None:
        """Count what is queued for at most `within_s`, then end; another worker counts what is left."""
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
            done = all(self._empty(slot) for slot in _first(busy))
            done = self._hear() and done
            if not busy or len(self._unnoted) > _UNNOTED:
                self._note()
            self._release([slot for slot in slots if slot is not self._own and not slot.waiting])
            with self._wake:
                idle = not busy and not self._hearing.open
                if self._deadline is not None and (idle or time.monotonic() > self._deadline):
                    return
                if not done:
                    self._wake.wait(self._rest_s)
                elif not busy and not self._news:
                    self._wake.wait(EVERY_S if self._hearing.open else 1.0)
                self._news = False

    def _prepare(self) -> None:
        try:
            self._store.prepare()
        except StoreError as error:
            self._seldom.warning("store", "%s; failures wait", error)

    def _release(self, empty: list[Slot]) -> None:
        for slot in empty:
            with self._wake:
                self._slots.remove(slot)
                self._spool.release(slot)

    def _empty(self, slot: Slot) -> bool:
        """Count one batch of the most urgent in a slot; False when Redis failed and the batch stays."""
        importance = slot.most_urgent() or Importance.URGENT
        place, records = slot.oldest(_BATCH[importance], importance)
        failures = [unpack(record) for record in records]
        now_ms = time.monotonic_ns() // 1_000_000
        late = expired(failures, self._rules, now_ms)
        due = [failure for failure, too_late in zip(failures, late, strict=True) if not too_late]
        try:
            if due:
                self._odd = ""
                self._count(due, now_ms)
                self._troubles["counting"] = self._odd
        except StoreError as error:
            self._troubles["counting"] = str(error)
            self._rest_s = random.uniform(0, min(max(2 * self._rest_s, 0.1), _LONGEST_REST_S))  # noqa: S311
            self._seldom.warning("store", "%s; %d failures wait", error, slot.waiting)
            slot.settle(place, (), self._told_bans())
            return False
        self._rest_s = 0.0
        slot.settle(place, ["expired" if too_late else "counted" for too_late in late], self._told_bans())
        return True

    def _told_bans(self) -> int:
        """The bans made since the last call, for the spool; those of a batch in which Redis failed later count too."""
        bans, self._bans = self._bans, 0
        return bans

    def _count(self, records: list[Failure], now_ms: int) -> None:
        failures = [failure for failure in records if not failure.joined]
        hot = self.rooms.hot
        counted = self._counters.count(failures, now_ms, hot)
        for each in counted:
            with self._not_stopped_by(each.network):
                self._judge(each, hot)
        for joined in records:
            if joined.joined and self._limits.forgive_on_join:
                with self._not_stopped_by(joined.network):
                    self._forgive(joined)
        self._unnoted += records
        for each in counted:  # after the bans, which must not wait for the log
            if each.level is None and not each.rule.endswith(LONG):
                rule = self._rules[each.rule]
                rooms = _rooms(failures, each.network)
                self._sparingly.say(
                    logging.INFO, "failure", "failure %s: rule %s, %d of %d in %s%s",
                    each.network, each.rule, each.count, rule.maxretry, rule.findtime, rooms,
                )  # fmt: skip

    def _forgive(self, joined: Failure) -> None:
        """Take back failures for a right PIN. A Redis that refuses this alone must not keep us from counting."""
        before, trouble = self._troubles.get("forgiving", ""), ""
        try:
            self._counters.forgive(joined, self._limits.forgive_on_join)
        except (StoreFullError, ForbiddenError) as error:
            trouble = f"no wrong PIN is taken back for a right one: {error}"
        self._troubles["forgiving"] = trouble
        if trouble and not before:
            _log.error("%s", trouble)
        elif before and not trouble:
            _log.warning("right PINs take wrong ones back again")

    @contextmanager
    def _not_stopped_by(self, network: Network) -> Iterator[None]:
        """What a person wrote into a key of ours about one address must not keep the others from being counted."""
        try:
            yield
        except BadDataError as error:
            self._odd = f"{network}: {error}"
            self._sparingly.say(logging.ERROR, "data", "cannot judge %s: %s", network, error)

    def _note(self) -> None:
        """What no ban waits for, and what may get lost: the rooms of failures, whether a ban did not stop them, and the
        wider networks of joins.
        """
        if not self._unnoted:
            return
        records, self._unnoted = self._unnoted, []
        failures = [each for each in records if not each.joined]
        now_ms = time.monotonic_ns() // 1_000_000
        try:
            self.rooms.note(failures, now_ms)
        except StoreError as error:  # the failures of the addresses are counted already
            self._seldom.warning("rooms", "%s; wrong PINs are missing from their rooms", error)
        try:
            self._leaks.note(failures, now_ms)
        except StoreError as error:
            self._seldom.warning("leaks", "%s; cannot tell whether banned addresses get through", error)
        try:
            self._counters.note_joins([each for each in records if each.joined], now_ms)
        except StoreError as error:
            self._seldom.warning("joins", "%s; joins are missing from their networks", error)

    def _judge(self, counted: Counted, hot: frozenset[str]) -> None:
        if counted.level is not None and counted.rule == "pin" and counted.count >= counted.level.maxretry:
            counted = replace(counted, joined=self._counters.joined(counted))
        broken = broken_rule(counted, self._counters.rule(counted.rule), hot, self._limits.hot_maxretry)
        if broken is None:
            self._hearing.expect(counted.network)
            return
        if self._hearing.waits(counted.network):
            return
        self.moved_at = time.monotonic()  # many bans in a slow Redis take long, but nothing is stuck
        found = self._circumstances(counted)
        weighed = TRUSTED if found.allowed else self._weighed(counted)
        if not weighed.doubted:
            self._conclude(counted, broken, found)
            return
        case = Case(counted, broken, weighed.doubted, found.strikes)
        belief = self._hearing.begin(case, age_ms(counted, weighed.now_ms))
        if belief is not None:
            self._close(case, belief)

    def _circumstances(self, counted: Counted) -> Circumstances:
        """What Redis knows of the address; only what its rule needs. The intake's allow-list may be a second old."""
        if self._ledger.is_allowed(counted.network):
            return Circumstances(allowed=True)
        rule = self._counters.rule(counted.rule)
        return Circumstances(strikes=self._ledger.strikes(counted.network) if rule.bantime_increment else 0)

    def _weighed(self, counted: Counted) -> Weighed:
        """Whom we doubt of those who sent the evidence; a rule that only simulates needs no doubt."""
        if self._counters.rule(counted.rule).simulate:
            return TRUSTED
        try:
            return self._doubt.weigh(counted.network, senders(counted))
        except BadDataError as error:  # it must not protect a guesser
            self._odd = str(error)
            self._sparingly.say(logging.ERROR, "doubt", "cannot tell whether a sender is doubted: %s", error)
            return TRUSTED

    def _hear(self) -> bool:
        """Decide the bans about which witnesses have answered; False when Redis failed, and they wait."""
        try:
            for case, belief in self._hearing.decided():
                with self._not_stopped_by(case.counted.network):
                    self._close(case, belief)
                self._hearing.end(case.counted.network)  # not reached when Redis failed: it is decided again
        except StoreError as error:
            self._rest_s = random.uniform(0, min(max(2 * self._rest_s, 0.1), _LONGEST_REST_S))  # noqa: S311
            self._seldom.warning("store", "%s; %d bans wait for witnesses", error, len(self._hearing))
            return False
        if self._bans and self._own is not None:  # else the next batch tells of them
            head, _ = self._own.oldest(0)
            self._own.settle(head, (), self._told_bans())
        return True

    def _close(self, case: Case, belief: Belief) -> None:
        """Ban as far as the lines of a doubted sender are believed. Who was let in meanwhile is not banned."""
        network = case.counted.network
        self._conclude(case.counted, case.broken,
                       Circumstances(self._ledger.is_allowed(network), case.strikes, belief))  # fmt: skip
        self._doubt.note(case.doubted, belief)
        if belief is Belief.UNKNOWN:
            self._seldom.say(
                logging.ERROR, "unknown", "doubt: cannot tell whether lines of %s are forged, no enforcer of that host "
                "can say whether %s was connected; bans it for a minute at most. `pinban status` says what to do",
                ", ".join(sorted(case.doubted)), network,
            )  # fmt: skip
        elif belief is Belief.FORGED:
            self._seldom.say(
                logging.ERROR, "forged", "doubt: lines of %s seem to be forged, %s was not connected; only simulates",
                ", ".join(sorted(case.doubted)), network,
            )  # fmt: skip

    def _conclude(self, counted: Counted, broken: str, found: Circumstances) -> None:
        verdict = decide(counted, broken, self._rules, found, random.random())  # noqa: S311
        if verdict is not None:
            self._ban(verdict)

    def _ban(self, verdict: Verdict) -> None:
        recorded = self._ledger.ban(
            NewBan(verdict.network, verdict.bantime_ms, verdict.rule, verdict.told, self._node,
                   verdict.strikes_kept_ms, verdict.simulate)
        )  # fmt: skip
        self._bans += recorded.new and not verdict.simulate
        self._counters.reset(verdict.network, verdict.forgives, long=verdict.long)
        if recorded.new:
            self._sparingly.warning(
                "ban", "%s %s for %s by rule %s, ban number %d of this address",
                "would ban (simulated)" if verdict.simulate else "banned", verdict.network,
                Milliseconds(verdict.bantime_ms), verdict.rule, recorded.strikes + verdict.simulate,
            )  # fmt: skip


def _first(slots: list[Slot]) -> list[Slot]:
    """Those of the slots that hold the most urgent failures: what is less waits until there are none of these."""
    if len(slots) < 2:
        return slots
    urgency = [(slot.most_urgent(), slot) for slot in slots]
    first = min((importance for importance, _ in urgency if importance is not None), default=None)
    return [slot for importance, slot in urgency if importance is first]


def _rooms(failures: list[Failure], network: str) -> str:
    aliases = sorted({failure.alias for failure in failures if failure.network == network})
    more = f" and {len(aliases) - 3} more" if len(aliases) > 3 else ""
    return f"; room {', '.join(aliases[:3])}{more}" if any(aliases) else ""
