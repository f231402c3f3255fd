"""Keeping the firewall in agreement with the ledger: what the threads of the enforcer do. No parsing, no policy.

One lock guards the position, the desired bans and changes of the firewall's sets: whoever changes one changes all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from enforcer.desired import Desired
from enforcer.firewall import Firewall
from enforcer.ledger import Snapshot
from enforcer.position import Position, Step
from enforcer.reconcile import Plan, plan
from shared.addresses import Network
from shared.allow import AllowList
from shared.durations import Milliseconds
from shared.errors import DecodeError, FirewallError
from shared.events import Ban, Event, Unban, decode
from shared.logs import Sparingly

_log = logging.getLogger("pinban.enforcer")


def monotonic_ms() -> int:
    """The clock of all durations here, ms."""
    return time.monotonic_ns() // 1_000_000


def _no_matter(_: AllowList) -> None:
    """Of no use to whoever spares by other means."""


class Agent:
    """What the firewall should hold, what it holds, and how the one follows the other."""

    def __init__(
        self, firewall: Firewall, spared: Callable[[Network], str], learn: Callable[[AllowList], None] = _no_matter
    ) -> None:
        """`spared` tells why a network must never be dropped, or ""; `learn` is told each snapshot's allow-list."""
        self._learn = learn
        self._firewall = firewall
        self._lock = threading.RLock()
        self._desired = Desired(spared)
        self._position = Position()
        self._sparingly = Sparingly(_log, burst=20)
        self.tally: Counter[str] = Counter()  #: events, gaps, resyncs, repairs, bad_events, spared
        self.check_wanted = threading.Event()  #: set when the firewall was not as we left it

    @property
    def applied(self) -> tuple[str, int]:
        """Epoch and revision of the last change that is in the firewall."""
        stamp = self._position.stamp
        return (stamp.epoch, stamp.rev) if stamp else ("", -1)

    def arm(self) -> None:
        """Make chain, rules and sets stand. FirewallError when they cannot."""
        made = self._firewall.install()
        _log.info("firewall: %s", f"made {', '.join(made)}" if made else "everything stands already")

    def resync(self, snapshot: Snapshot) -> None:
        """Make the firewall agree with a whole ledger, by content."""
        with self._lock:
            actual, now_ms = self._firewall.bans(), monotonic_ms()
            self._learn(AllowList(list(snapshot.allowed), snapshot.time_ms, now_ms))
            if not self._position.trusts(snapshot.stamp, self._firewall.ledger()):
                lost = {n: ms for n, ms in (self._desired.left(now_ms) or actual).items() if n not in snapshot.bans}
                self._desired.keep(lost, now_ms)
                if lost:
                    _log.warning(
                        "this ledger is not the one we knew: %d bans that it lacks stay until they expire", len(lost)
                    )
            spared = self._desired.replace(snapshot.bans, now_ms)
            if spared:
                self._sparingly.warning(
                    "spared", "does not drop %d networks of the ledger: ignoreip, own addresses", spared
                )
            self._change(plan(self._desired.left(now_ms), actual))
            self._position.moved(snapshot.stamp)
            self._remember()
            self.tally["resyncs"] += 1

    def follow(self, events: Sequence[bytes]) -> bool:
        """Apply events in order, in one change of the firewall; False when a snapshot is needed."""
        with self._lock:
            before = self._position.stamp
            changes: dict[Network, Ban | Unban] = {}  #: the last word on each network
            complete = True
            for data in events:
                event = self._decoded(data)
                step = Step.IGNORE if event is None else self._position.step(event)
                if step is Step.RESYNC and complete:
                    self.tally["gaps"] += 1
                    complete = False
                if not complete or step is Step.IGNORE or not isinstance(event, Ban | Unban):
                    continue
                self.tally["events"] += 1
                self._position.moved(event.stamp)
                if isinstance(event, Unban) or self._wants(event):
                    changes.pop(event.network, None)
                    changes[event.network] = event
            try:
                self._apply(changes.values())
            except FirewallError:
                self._position.stamp = before  # not applied: the snapshot after the repair will do it
                raise
            return complete

    def check(self) -> None:
        """Compare the firewall with what it should hold, by content, and mend it."""
        self.check_wanted.clear()
        for what in self._firewall.install():
            self.tally["repairs"] += 1
            _log.warning("firewall: put back %s", what)
        # First without the lock, which new bans need; only if something seems wrong, once more with it.
        actual = self._firewall.bans()
        with self._lock:
            if self._position.stamp is None:
                return
            change = plan(self._desired.left(monotonic_ms()), actual)
            if change:
                change = plan(self._desired.left(monotonic_ms()), self._firewall.bans())
            if change:
                self.tally["repairs"] += 1
                _log.warning("firewall: put back %d bans, removed %d that the ledger does not have",
                             len(change.add), len(change.remove))  # fmt: skip
            self._change(change)
            self._remember()

    def bans_in_kernel(self) -> int:
        """How many networks the firewall drops now."""
        return self._firewall.count()

    def _decoded(self, data: bytes) -> Event | None:
        try:
            return decode(data)
        except DecodeError as error:
            self.tally["bad_events"] += 1
            self._sparingly.warning("bad", "ignored an event: %s", error)
            return None

    def _wants(self, event: Ban) -> bool:
        why = self._desired.ban(event.network, event.ttl_ms, monotonic_ms())
        if why:
            self.tally["spared"] += 1
            self._sparingly.warning("spared", "does not drop %s: %s", event.network, why)
        return not why

    def _apply(self, changes: Collection[Ban | Unban]) -> None:
        bans = [event for event in changes if isinstance(event, Ban)]
        unbans = [event for event in changes if isinstance(event, Unban)]
        for unban in unbans:
            self._desired.unban(unban.network)
        self._change(Plan({ban.network: ban.ttl_ms for ban in bans}, frozenset(unban.network for unban in unbans)))
        for ban in bans:
            self._sparingly.say(
                logging.INFO, "ban", "drops %s for %s, rule %s", ban.network, Milliseconds(ban.ttl_ms), ban.rule
            )
        for unban in unbans:
            self._sparingly.say(logging.INFO, "unban", "drops %s no longer", unban.network)

    def _change(self, change: Plan) -> None:
        if not change:
            return
        try:
            self._firewall.apply(change)
        except FirewallError:
            self.check_wanted.set()
            raise

    def _remember(self) -> None:
        """Mark in the kernel which ledger it holds, as soon as it holds nothing else."""
        epoch, _ = self.applied
        if epoch and not self._desired.orphans and self._firewall.ledger() != epoch:
            self._firewall.remember_ledger(epoch)
