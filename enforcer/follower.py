"""The thread that listens to the ledger: subscribe, confirm, snapshot, then events; again from the start at any doubt.

redis-py reconnects without telling us, a frozen server still acknowledges bytes, and a demoted master stays silent: a
heartbeat is the only proof that the ledger is alive.
"""

from __future__ import annotations

import logging
import random
import threading
import time

from enforcer.agent import Agent
from enforcer.snapshot import read_snapshot
from shared.errors import DecodeError, FirewallError, StoreError
from shared.events import decode
from shared.host import be_quick
from shared.logs import Sparingly
from shared.settings import Settings
from shared.store import ASK_EVERY_S, Store, Subscription, connect

#: Heartbeats come every two seconds; after this long without one the connection is given up, s.
SILENCE_S = 6.0

#: Events after this long a silence were held up on the way, s: their bans have less time left than they say.
LATE_S = 4.0

#: Longest wait for an answer, s. A page of a snapshot takes some milliseconds.
_ANSWER_S = 2.0

#: Longest pause between two tries, s; each is a random part of its limit, so that RPs do not all come at once.
_LONGEST_REST_S = 3.0

#: Most events that one change of the firewall applies.
_BATCH = 1_000

_log = logging.getLogger("pinban.enforcer")


class Follower(threading.Thread):
    """Follows the ledger until told to stop."""

    def __init__(self, settings: Settings, agent: Agent) -> None:
        super().__init__(name="follower", daemon=True)
        self._settings = settings
        self._agent = agent
        self._stopping = threading.Event()
        self._sparingly = Sparingly(_log, every_s=10.0)
        self._rest_s = 0.0
        self.resync_wanted = threading.Event()  #: set when Redis' clock was set
        self.moved_at = time.monotonic()  #: when the loop last came round, s
        self.heard_at: float | None = None  #: when the last message came, s of the monotonic clock
        self.trouble = "not connected yet"  #: why we do not follow now, or ""

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()

    def run(self) -> None:
        """Follow; after any failure pause, and start again with a snapshot."""
        be_quick()
        while not self._stopping.is_set():
            self.moved_at = time.monotonic()
            try:
                self._follow()
            except (StoreError, FirewallError) as error:
                self.trouble = str(error)
                self._sparingly.warning("store", "%s; standing bans stay, trying again", error)
                self._mend(error)
            except Exception:  # noqa: BLE001  whatever it was, a snapshot repairs it
                self.trouble = "a bug in pinban; see the enforcer's log"
                self._sparingly.bug("bug", "starts again with a snapshot after a bug in pinban")
            self._rest_s = random.uniform(0.1, min(max(2 * self._rest_s, 0.4), _LONGEST_REST_S))  # noqa: S311
            self._stopping.wait(self._rest_s)

    def _mend(self, error: StoreError | FirewallError) -> None:
        if isinstance(error, FirewallError):
            try:
                self._agent.check()
            except FirewallError as still:
                self._sparingly.warning("mend", "%s", still)

    def _follow(self) -> None:
        """One connection's life. Raises StoreError or FirewallError at its end, returns when told to stop."""
        store = connect(self._settings, f"enforcer-{self._settings.enforcer.node}", _ANSWER_S)
        with store, store.subscribed(store.keys.channel) as channel:
            confirmed = channel.next(_ANSWER_S)
            if confirmed is None or confirmed[0] != "subscribe":
                raise StoreError("Redis did not confirm the subscription; is it overloaded?")
            self._resync(store)
            asked_at = time.monotonic()
            while not self._stopping.is_set():
                heard_at = self.heard_at
                events = self._events(channel)
                late = heard_at is not None and self.heard_at != heard_at and time.monotonic() - heard_at > LATE_S
                if late or self.resync_wanted.is_set() or (events and not self._agent.follow(events)):
                    self.resync_wanted.clear()
                    self._resync(store)
                if self.heard_at is not None and time.monotonic() - self.heard_at > SILENCE_S:
                    raise StoreError(f"no heartbeat for {SILENCE_S:.0f} s; is a receiver running, is Redis answering?")
                if time.monotonic() - asked_at > ASK_EVERY_S:
                    asked_at = time.monotonic()
                    if reason := channel.left_behind():
                        raise StoreError(f"subscribed to a server that is not the master: {reason}")

    def _resync(self, store: Store) -> None:
        snapshot = read_snapshot(store)
        self._agent.resync(snapshot)
        if snapshot.unreadable:
            self._sparingly.warning(
                "member", "left out %d bans that are no network; see pinban status", snapshot.unreadable
            )
        if self.trouble:
            _log.info("follows the ledger, epoch %s revision %d, %d bans",
                      snapshot.stamp.epoch or "(none yet)", snapshot.stamp.rev, self._agent.wanted)  # fmt: skip
        self.trouble = ""
        self.heard_at = time.monotonic()
        self._rest_s = 0.0

    def _events(self, channel: Subscription) -> list[bytes]:
        """The events that have arrived; waits half a second for the first."""
        self.moved_at = time.monotonic()
        events: list[bytes] = []
        message = channel.next(0.5)
        while message is not None:
            kind, data = message
            if kind == "subscribe":
                raise StoreError("the connection was lost and made again; events may be missing")
            if kind == "message":
                events.append(data)
            if len(events) >= _BATCH or not channel.waiting():
                break
            message = channel.next(_ANSWER_S)  # with no wait, half a message would be a TimeoutError
        if any(_is_ours(data) for data in events):
            self.heard_at = time.monotonic()
        return events


def _is_ours(data: bytes) -> bool:
    """Whether pinban sent this: garbage on the channel is no sign of life."""
    try:
        decode(data)
    except DecodeError:
        return False
    return True
