"""The thread that runs once a second: heartbeat, node's hash, allow-list and hot rooms, probes, and what is wrong.

It knows no other thread. What it reads it passes to the functions in Learn; the numbers it reports are the spool's.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version

from receiver.inherited import Inherited
from receiver.probes import Watch
from receiver.sockets import kernel_drops
from receiver.store import Sizes
from shared.errors import StoreError
from shared.ledger import AllowList, Ledger, read_allow
from shared.logs import Sparingly
from shared.nodes import NodeWriter, index_nodes
from shared.store import Store, losses, read_memory

_EVERY_S = 1.0

#: How often to ask Redis for faults that may cost bans, and to search it for nodes that its index lacks, s.
_LOOK_EVERY_S = 60.0

#: The task that decides whether the receiver is ready: while it fails nothing is counted.
REPORT = "heartbeat"

_log = logging.getLogger("pinban.receiver")


@dataclass(frozen=True, slots=True)
class Learn:
    """The functions that get what stands in Redis, each second."""

    allowed: Callable[[AllowList], None]
    hot: Callable[[frozenset[str]], None]


class Maintenance(threading.Thread):
    """Runs until told to stop."""

    def __init__(
        self,
        store: Store,
        inherited: Inherited,
        learn: Learn,
        watch: Watch,
        sizes: Sizes,
        troubles: dict[str, str],
    ) -> None:
        """`troubles`, by task, stand in the node's hash as long as they last; other threads write theirs there."""
        super().__init__(name="maintenance", daemon=True)
        self._store = store
        self._node = inherited.settings.receiver.node
        self._ledger = Ledger(store)
        self._spool = inherited.spool
        self._sockets = inherited.sockets
        self._writer = NodeWriter(store, self._node, inherited.spool.name)
        self._learn = learn
        self._watch = watch
        self._sizes = sizes
        self._stopping = threading.Event()
        self._sparingly = Sparingly(_log, every_s=5.0)
        self._drops = 0
        self._look_at = 0.0
        self._troubles = troubles
        self._troubles[REPORT] = "Redis has not answered yet"

    @property
    def not_ready(self) -> str:
        """Why this receiver cannot count now, or "". Other faults are in the log and in the node's hash."""
        return self._troubles.get(REPORT, "")

    def stop(self) -> None:
        """End the loop; waits at most 2 s until the last probes are in Redis."""
        self._stopping.set()
        self.join(2.0)

    def run(self) -> None:
        """Do every task, each second."""
        while not self._stopping.wait(0.2 if self.not_ready else _EVERY_S):
            self._do(REPORT, self._report)
            self._do("drops", self._measure)
            self._do("allow-list", self._learn_allowed)
            self._do("hot rooms", self._learn_hot)
            self._do("memory of Redis", self._look)
            self._do("probes", self._watch.round)
            self._do("sizes", self._sizes.flush)
        self._do("probes", self._watch.round)

    def _do(self, name: str, task: Callable[[], None]) -> None:
        """Do one task. Whatever goes wrong is logged once while it lasts, and does not stop the other tasks."""
        try:
            task()
        except StoreError as error:
            trouble = str(error)
        except Exception:  # noqa: BLE001  a bug in one task must not end the others
            trouble = "a bug in pinban; see the receiver's log"
            self._sparingly.bug(name, "%s: %s", name, trouble)
        else:
            if self._troubles.pop(name, "") and name == REPORT:
                _log.info("Redis answers; %d failures wait to be counted", self._spool.totals()["queued"])
            return
        if name == REPORT:
            if not self.not_ready:
                _log.error("%s", trouble)
        elif self.not_ready:
            return  # Redis is away: that is logged once, not for each task
        elif name not in self._troubles:
            _log.error("%s: %s", name, trouble)
        self._troubles[name] = trouble

    def _report(self) -> None:
        self._ledger.heartbeat(f"{self._node}/{os.getpid()}")
        totals = self._spool.totals()
        facts: dict[str, str | int] = {
            "kind": "receiver",
            "version": version("pinban"),
            "drops": kernel_drops(self._sockets),
            "trouble": "; ".join(f"{name}: {text}" for name, text in self._troubles.items() if text and name != REPORT),
            **totals,
        }
        if not self._writer.write(facts):
            self._sparingly.warning(
                "name", "another daemon has the name %s too; change receiver.node on one of them", self._node
            )
        if step := self._writer.stepped():
            _log.warning("Redis' clock was set by %+.1f s, or this host slept; windows and bans are wrong by as much",
                         step / 1_000)  # fmt: skip

    def _measure(self) -> None:
        drops = kernel_drops(self._sockets)
        if drops > self._drops:
            self._sparingly.warning(
                "drops", "the kernel dropped %d datagrams because the sockets' buffers were full; "
                "raise receiver.receive_buffer and sysctl net.core.rmem_max", drops - self._drops,
            )  # fmt: skip
            self._drops = drops

    def _learn_allowed(self) -> None:
        entries, redis_ms = read_allow(self._store)
        self._learn.allowed(AllowList(entries, redis_ms, time.monotonic_ns() // 1_000_000))

    def _learn_hot(self) -> None:
        self._learn.hot(self._ledger.hot_rooms())

    def _look(self) -> None:
        """Once a minute: log an error while Redis may lose bans, and one worker completes the index of nodes."""
        now = time.monotonic()
        if now < self._look_at:
            return
        for loss in losses(read_memory(self._store)):
            _log.error("%s", loss)
        if self._spool.leads():
            index_nodes(self._store)
        self._look_at = now + _LOOK_EVERY_S
