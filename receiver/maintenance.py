"""The once-a-second thread: the heartbeat, the node's hash, what dead workers left, what goes wrong."""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

import redis

from receiver.counting import Counter
from receiver.inherited import Inherited
from receiver.intake import Ingest, Sorter, recover
from receiver.probes import Watch
from receiver.sockets import kernel_drops
from receiver.store import Rooms
from shared.errors import StoreError
from shared.exempt import Exemptions
from shared.ledger import AllowList, Ledger, read_allow
from shared.logs import Sparingly
from shared.nodes import NodeWriter
from shared.settings import Settings
from shared.store import losses, read_memory

_EVERY_S = 1.0

#: How often Redis is asked what may cost bans, s.
_LOOK_EVERY_S = 60.0

_log = logging.getLogger("pinban.receiver")


@dataclass(frozen=True, slots=True)
class Learned:
    """Where the maintenance puts what it reads from Redis."""

    rooms: Rooms
    exempt: tuple[Exemptions, ...]  #: one for each thread that asks


class Maintenance(threading.Thread):
    """Runs until told to stop."""

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        inherited: Inherited,
        ingest: Ingest,
        counter: Counter,
        sorter: Sorter,
        learned: Learned,
        watch: Watch,
    ) -> None:
        super().__init__(name="maintenance", daemon=True)
        self._settings = settings
        self._client = client
        self._ledger = Ledger(settings, client)
        self._spool = inherited.spool
        self._sockets = inherited.sockets
        self._writer = NodeWriter(settings, client, settings.receiver.node, inherited.spool.name)
        self._ingest = ingest
        self._counter = counter
        self._sorter = sorter
        self._learned = learned
        self._watch = watch
        self._stopping = threading.Event()
        self._sparingly = Sparingly(_log, every_s=5.0)
        self._drops = 0
        self._looked_at = -_LOOK_EVERY_S
        self.trouble = "Redis has not answered yet"  #: why this receiver cannot count now, or ""

    def stop(self) -> None:
        """End the loop; returns when what was seen of probes is told, or Redis was too slow for that."""
        self._stopping.set()
        self.join(2.0)

    def run(self) -> None:
        """Keep house."""
        while not self._stopping.wait(_EVERY_S if not self.trouble else 0.2):
            self._guarded(self._adopt)
            self._guarded(self._measure)
            self._guarded(self._report)
            self._guarded(self._learn)
            self._guarded(self._look)
            self._guarded(self._watch_probes)
        self._guarded(self._watch_probes)

    def _guarded(self, chore: Callable[[], None]) -> None:
        try:
            chore()
        except StoreError as error:
            if not self.trouble:
                _log.error("%s", error)
            self.trouble = str(error)
        except Exception:  # noqa: BLE001  one chore's bug must not end the others
            self._sparingly.say(
                logging.ERROR, chore.__name__, "could not keep house: %s", traceback.format_exc().rstrip()
            )

    def _report(self) -> None:
        node = self._settings.receiver.node
        self._ledger.heartbeat(f"{node}/{os.getpid()}")
        totals = self._spool.totals()
        drops = kernel_drops(self._sockets)
        facts: dict[str, str | int] = {"kind": "receiver", "version": version("pinban"), "drops": drops, **totals}
        if not self._writer.write(facts):
            self._sparingly.warning("name", "another daemon is called %s too; set receiver.node on one of them", node)
        if step := self._writer.stepped():
            _log.warning("Redis' clock was set by %+.1f s; what it counts by is wrong by as much", step / 1_000)
        if self.trouble:
            _log.info("Redis is there; %d failures wait to be counted", totals["queued"])
        self.trouble = ""

    def _measure(self) -> None:
        drops = kernel_drops(self._sockets)
        if drops > self._drops:
            self._sparingly.warning(
                "drops", "the kernel dropped %d datagrams, the sockets' buffers being full; "
                "raise receiver.receive_buffer and sysctl net.core.rmem_max", drops - self._drops,
            )  # fmt: skip
            self._drops = drops

    def _learn(self) -> None:
        """What people and other receivers wrote: the allow-list and the hot rooms."""
        entries, redis_ms = read_allow(self._settings, self._client)
        now = time.monotonic_ns() // 1_000_000
        for exempt in self._learned.exempt:
            exempt.learn(AllowList(entries, redis_ms, now))
        self._learned.rooms.hot = self._ledger.hot_rooms()

    def _look(self) -> None:
        """Shout, once a minute, while Redis may lose what is in it."""
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            for loss in losses(read_memory(self._settings, self._client)):
                _log.error("%s", loss)
            self._looked_at = now

    def _watch_probes(self) -> None:
        """Probes, and alarms about them; what goes wrong here keeps nobody from counting."""
        try:
            self._watch.round()
        except StoreError as error:
            if not self.trouble:
                self._sparingly.warning("probes", "cannot tell of probes: %s", error)

    def _adopt(self) -> None:
        """Take over slots whose worker is gone with work left in them."""
        own = self._ingest.slot
        if own is None:
            return
        for slot in self._spool.slots:
            if slot is own or self._counter.has(slot) or not slot.left_over() or not self._spool.claim(slot):
                continue
            _log.info("finishing what a worker left: %d failures wait", slot.waiting)
            recover(slot, self._sorter)
            self._counter.adopt(slot)


def moving(ingest: Ingest, counter: Counter, maintenance: Maintenance, within_s: float) -> bool:
    """Whether all threads of a worker are alive and came round lately: what the arbiter is told with each heartbeat."""
    now = time.monotonic()
    return (
        ingest.is_alive()
        and counter.is_alive()
        and maintenance.is_alive()
        and now - ingest.moved_at < within_s
        and now - counter.moved_at < within_s
    )
