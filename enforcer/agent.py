"""Makes the firewall agree with the ledger: the work that the enforcer's threads do. No parsing, no policy.

One lock guards the position, the desired bans and changes of the firewall's sets, because they must change together.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

from enforcer.desired import Desired
from enforcer.firewall import Capacity, Firewall
from enforcer.position import Position, Step
from enforcer.reconcile import SLACK_MS, Plan, plan
from enforcer.snapshot import Snapshot
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.errors import DecodeError, FirewallError
from shared.events import Ban, Event, Question, Unban, decode
from shared.ledger import AllowList
from shared.logs import Sparingly

#: Longest wait of `tend` for a change that is under way, s: taking over a whole ledger takes seconds.
_HELD_S = 0.2

_log = logging.getLogger("pinban.enforcer")


def monotonic_ms() -> int:
    """The clock of all durations here, ms."""
    return time.monotonic_ns() // 1_000_000


def _no_matter(_: object) -> None:
    """For an agent whose `exempt` needs no allow-list, or that nobody asks."""


class Agent:
    """What the firewall should hold and what it holds, and the changes that make them agree."""

    def __init__(
        self,
        firewall: Firewall,
        exempt: Callable[[Network], str],
        learn: Callable[[AllowList], None] = _no_matter,
        ask: Callable[[Question], None] = _no_matter,
        cut: Callable[[Collection[Network]], None] = _no_matter,
    ) -> None:
        """`exempt` tells why a network must never be dropped, or ""; `learn` is told each snapshot's allow-list, `ask`
        each question on the channel, and `cut` the networks that are dropped from now on.
        """
        self._cut = cut
        self._learn = learn
        self._ask = ask
        self._firewall = firewall
        self._lock = threading.RLock()
        self._desired = Desired(exempt)
        self._position = Position()
        self._sparingly = Sparingly(_log, burst=20)
        self.tally: Counter[str] = Counter()  #: events, gaps, resyncs, repairs, bad_events, exempt, clock_steps
        self.unfit = 0  #: bans that the firewall was too full for
        self.check_wanted = threading.Event()  #: set when the firewall was not as we left it
        self._touched: set[Network] | None = None  #: what has changed since the check that is under way began

    @property
    def wanted(self) -> int:
        """How many networks the firewall should drop; those that are exempt do not count."""
        return len(self._desired)

    @property
    def applied(self) -> tuple[str, int]:
        """Epoch and revision of the last change that is in the firewall."""
        stamp = self._position.stamp
        return (stamp.epoch, stamp.rev) if stamp else ("", -1)

    def arm(self) -> None:
        """Make the chains, rules and sets that are missing. FirewallError when that fails."""
        made = [*self._firewall.install(), *self._firewall.enlarge()]
        _log.info("firewall: %s", f"made {', '.join(made)}" if made else "everything is in place already")

    def resync(self, snapshot: Snapshot) -> None:
        """Make the firewall agree with a whole ledger, by content. When reading it fails, all bans stay."""
        with self._lock:
            now_ms, self._touched = monotonic_ms(), None
            self._learn(AllowList(list(snapshot.allowed), snapshot.time_ms, now_ms))
            trusted = self._position.trusts(snapshot.stamp, self._firewall.ledger())
            # an agent that has not yet read a whole ledger knows of fewer bans than its firewall
            unknowing = self._position.stamp is None or not self._desired
            lost, exempt = self._desired.replace(snapshot.bans, now_ms, keep_lost=not trusted)
            if unknowing and not trusted:
                lost += self._desired.keep(self._standing())
            if lost:
                _log.warning("this ledger is not the one we knew: %d bans that it lacks stay until they expire", lost)
            if exempt:
                self._sparingly.warning(
                    "exempt", "does not drop %d networks of the ledger, because they are exempt", exempt
                )
            self._desired.forget_ended(monotonic_ms())
            self.unfit = self._change(plan(self._desired.ends, self._standing(), monotonic_ms))
            self._position.moved(snapshot.stamp)
            self._remember()
            self.tally["resyncs"] += 1

    def follow(self, events: Sequence[bytes]) -> bool:
        """Apply events in order, in one change of the firewall; False when a snapshot is needed."""
        with self._lock:
            before = self._position.stamp
            changes: dict[Network, Ban | Unban] = {}  #: the last event about each network
            complete = True
            for data in events:
                event = self._decoded(data)
                if isinstance(event, Question):  # also when a snapshot is needed: receivers wait for the answer
                    self._ask(event)
                step = Step.IGNORE if event is None else self._position.step(event)
                if step is Step.RESYNC and complete:
                    self.tally["gaps"] += 1
                    complete = False
                if not complete or step is Step.IGNORE or not isinstance(event, Ban | Unban):
                    continue
                self.tally["events"] += 1
                self._position.moved(event.stamp)
                if self._wants(event):
                    changes.pop(event.network, None)
                    changes[event.network] = event
            try:
                self._apply(changes.values())
            except FirewallError:
                self._position.stamp = before  # nothing was applied: the snapshot after the repair does it
                raise
            return complete

    def check(self) -> None:
        """Compare the firewall with what it should hold, by content, and repair it."""
        self.check_wanted.clear()
        self._mend_rules()
        with self._lock:
            if self._position.stamp is None:
                return
            self._desired.forget_ended(monotonic_ms())
            touched = self._touched = set()
        # Without the lock, because new bans need it; what they change meanwhile is left out of the plan.
        change = plan(self._desired.ends, self._standing(), monotonic_ms)
        with self._lock:
            if self._touched is not touched:
                return  # a whole ledger came between
            self._touched = None
            change = change.without(touched)
            self._report(change)
            self.unfit = self._change(change)
            self._remember()

    def tend(self) -> Capacity:
        """Look at the firewall's numbers, every second: enlarge sets that are nearly full, repair rules that look
        disturbed, and ask for a check when bans are missing. A new ban may have to wait while a set grows.
        """
        try:
            capacity = self._firewall.capacity()
        except FirewallError:
            self.check_wanted.set()
            raise
        if capacity.disturbed:
            self._mend_rules()
        suspicious = capacity.bans + self.unfit < len(self._desired)
        if (suspicious or capacity.wanted) and self._lock.acquire(timeout=_HELD_S):
            try:
                if suspicious and self._lacks_bans():
                    self.check_wanted.set()
                for what in self._firewall.enlarge():
                    _log.info("firewall: made %s", what)
                capacity = self._firewall.capacity()
            finally:
                self._lock.release()
        return capacity

    def _decoded(self, data: bytes) -> Event | None:
        try:
            return decode(data)
        except DecodeError as error:
            self.tally["bad_events"] += 1
            self._sparingly.warning("bad", "ignored an event: %s", error)
            return None

    def _wants(self, event: Ban | Unban) -> bool:
        if isinstance(event, Unban):
            return not event.network.endswith("/0")  # no set can hold that
        why = self._desired.ban(event.network, event.ttl_ms, monotonic_ms())
        if why:
            self.tally["exempt"] += 1
            self._sparingly.warning("exempt", "does not drop %s: %s", event.network, why)
        return not why

    def _apply(self, changes: Collection[Ban | Unban]) -> None:
        bans = [event for event in changes if isinstance(event, Ban)]
        unbans = [event for event in changes if isinstance(event, Unban)]
        for unban in unbans:
            self._desired.unban(unban.network)
        if self._touched is not None:
            self._touched.update(event.network for event in changes)
        change = Plan({ban.network: ban.ttl_ms for ban in bans}, frozenset(unban.network for unban in unbans))
        self.unfit += self._change(change)
        for ban in bans:
            self._sparingly.say(
                logging.INFO, "ban", "drops %s for %s, rule %s", ban.network, Milliseconds(ban.ttl_ms), ban.rule
            )
        for unban in unbans:
            self._sparingly.say(logging.INFO, "unban", "no longer drops %s", unban.network)

    def _mend_rules(self) -> None:
        for what in self._firewall.install():
            self.tally["repairs"] += 1
            _log.warning("firewall: put back %s", what)

    def _lacks_bans(self) -> bool:
        """Whether the firewall has fewer bans than it should, without those that are about to end."""
        self._desired.forget_ended(monotonic_ms() + SLACK_MS)
        return self._position.stamp is not None and self._firewall.capacity().bans + self.unfit < len(self._desired)

    def _standing(self) -> Iterator[tuple[Network, int]]:
        """What the firewall drops now, with the ms when each ends; read while it is used."""
        for network, left_ms in self._firewall.members():
            yield network, monotonic_ms() + left_ms

    def _report(self, change: Plan) -> None:
        """Log that something else changed the firewall; that bans which did not fit are missing is no such change."""
        repairs = change.repairs - min(self.unfit, len(change.add))
        if repairs:
            self.tally["repairs"] += 1
            _log.warning("firewall: put back %d bans, removed %d that the ledger does not have",
                         repairs - len(change.remove), len(change.remove))  # fmt: skip

    def _change(self, change: Plan) -> int:
        """Make the change; how many bans did not fit."""
        if not change:
            return 0
        try:
            unfit = self._firewall.apply(change)
        except FirewallError:
            self.check_wanted.set()
            raise
        if change.add:
            self._cut(change.add.keys())
        return unfit

    def _remember(self) -> None:
        """Note in the kernel which ledger it holds, as soon as it holds bans of no other."""
        epoch, _ = self.applied
        if epoch and not self._desired.orphans and self._firewall.ledger() != epoch:
            self._firewall.remember_ledger(epoch)
