"""A worker of gunicorn that also reads nginx's log: runs its threads, and tells the arbiter while they are well."""

from __future__ import annotations

import os
import sys
from typing import Any

from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.workertmp import WorkerTmp

from receiver.assembly import Parts, assemble

#: A thread that began no new turn for this long is stuck, s: the signs of life stop, the arbiter replaces the worker.
STUCK_S = 10.0

#: How long one thread may keep the interpreter from another, s; Python's own 5 ms is more than a whole ban needs.
SWITCH_S = 0.0005


class _InMemory(WorkerTmp):  # type: ignore[misc]  # gunicorn has no types
    """The file whose time is a worker's sign of life, in memory and not on a disk."""

    def __init__(self) -> None:
        self._tmp = os.fdopen(os.memfd_create("pinban-worker"), "w+b", 0)


class _SurvivesFullDisk(Worker):  # type: ignore[misc]
    """gunicorn makes a file in worker_tmp_dir for each new worker; where it cannot, the arbiter would end."""

    def __init__(self, *arguments: Any) -> None:
        umask = os.umask(0)
        os.umask(umask)
        try:
            super().__init__(*arguments)
        except OSError:  # the file is the last thing that gunicorn's own makes
            os.umask(umask)
            self.tmp = _InMemory()


class ReceiverWorker(ThreadWorker, _SurvivesFullDisk):  # type: ignore[misc]
    """gthread for HTTP in the main thread, and the receiver's own threads beside it."""

    def run(self) -> None:
        """Start the threads, serve HTTP until told to stop, then count what was taken in."""
        sys.setswitchinterval(SWITCH_S)
        self.parts: Parts = assemble(self.app.inherited)
        self.app.health.maintenance = self.parts.maintenance
        self.parts.start()
        try:
            super().run()
        finally:
            self.parts.finish(within_s=max(self.cfg.graceful_timeout - 5, 1))

    def notify(self) -> None:
        """Tell the arbiter that we are well; silence makes it replace us."""
        if self.parts.moving(STUCK_S):
            super().notify()
