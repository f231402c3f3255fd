"""A worker of gunicorn that also reads nginx's log: its threads, their start and their end."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

from gunicorn.workers import base
from gunicorn.workers.gthread import ThreadWorker
from gunicorn.workers.workertmp import WorkerTmp

from receiver.counting import Counter
from receiver.inherited import Inherited
from receiver.intake import Ingest, Sorter
from receiver.mail import Mailer
from receiver.maintenance import Learned, Maintenance, moving
from receiver.probes import Probes, Watch
from receiver.store import Counts, Doubt, Rooms
from shared.exempt import Exemptions, names_of
from shared.ledger import Ledger
from shared.store import HASTY_S, connect

#: A thread that has not come round for this long is stuck, s: the heartbeat stops and the arbiter replaces the worker.
STUCK_S = 10.0

#: How long one thread may keep the interpreter from another, s; Python's own 5 ms is more than a whole ban needs.
SWITCH_S = 0.0005

_log = logging.getLogger("pinban.receiver")

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Pulse(WorkerTmp):  # type: ignore[misc]
    """The heartbeat of a worker, which is the time of a file: of one in memory, for which no disk can be too full."""

    def __init__(self, _: object) -> None:
        self._tmp = os.fdopen(os.memfd_create("pinban-pulse"), "w+b", 0)


base.WorkerTmp = Pulse  # gunicorn makes a file for each new worker; where there is no room for one the arbiter ends


class IngestWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn has no types
    """gthread for HTTP in the main thread, beside it ingest, counter and maintenance."""

    def run(self) -> None:
        """Start the threads, serve HTTP until told to stop, then count what was taken in."""
        sys.setswitchinterval(SWITCH_S)
        inherited: Inherited = self.app.inherited
        settings = inherited.settings
        client = connect(settings, f"receiver-{settings.receiver.node}", HASTY_S)
        ledger = Ledger(settings, client)
        rooms = Rooms(settings, client, ledger)
        names = names_of(settings)
        exempt = Exemptions(settings, names)
        housekeeping = connect(settings, f"maintenance-{settings.receiver.node}", HASTY_S)
        probes = Probes(settings, housekeeping)
        sorter = Sorter(settings, inherited.rulebook, exempt, probes.note)
        self.counter = Counter(
            settings, inherited.spool, Counts(settings, client), ledger, rooms, Doubt(settings, client)
        )
        self.ingest = Ingest(inherited.sockets, inherited.spool, sorter, self.counter)
        heir = Exemptions(settings, names)  # one of its own, since it sorts in another thread
        self.maintenance = Maintenance(
            settings,
            housekeeping,
            inherited,
            self.ingest,
            self.counter,
            Sorter(settings, inherited.rulebook, heir, probes.note),
            Learned(rooms, (exempt, heir)),
            Watch(settings, housekeeping, probes, inherited.spool),
        )
        self.app.maintenance = self.maintenance
        mailer = Mailer(settings, connect(settings, f"mailer-{settings.receiver.node}", HASTY_S))
        for thread in (names, self.counter, self.ingest, self.maintenance, *((mailer,) if settings.mail.to else ())):
            thread.start()
        try:
            super().run()
        finally:
            self.ingest.stop()
            self.maintenance.stop()
            mailer.stop()
            self.counter.finish(within_s=max(self.cfg.graceful_timeout - 5, 1))

    def notify(self) -> None:
        """Tell the arbiter that we are well; silence makes it replace us."""
        if moving(self.ingest, self.counter, self.maintenance, STUCK_S):
            super().notify()


class Health:
    """The WSGI application: /healthz, alive; /readyz, able to count."""

    def __init__(self) -> None:
        self.maintenance: Maintenance | None = None

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        """Answer a probe (PEP 3333)."""
        match environ.get("PATH_INFO"):
            case "/healthz":
                status, text = "200 OK", "alive"
            case "/readyz" if self.maintenance is not None and not self.maintenance.trouble:
                status, text = "200 OK", "ready"
            case "/readyz":
                status, text = "503 Service Unavailable", self.maintenance.trouble if self.maintenance else "starting"
            case _:
                status, text = "404 Not Found", "try /healthz or /readyz"
        body = text.encode() + b"\n"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
        return [body]
