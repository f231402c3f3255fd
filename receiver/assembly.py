"""Builds every part of a receiver's worker once, for the worker and for tests. Starts nothing.

sockets -> Intake -> slot of the spool -> Counter -> Redis        Maintenance and Mailer beside them, each with a
                                                                  connection of its own
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from receiver.counting import Counter
from receiver.inherited import Inherited
from receiver.intake import Intake, Sorter
from receiver.mail import Mailer
from receiver.maintenance import Learn, Maintenance
from receiver.probes import Probes, Watch
from receiver.store import Sizes
from shared.exempt import Exemptions, names_of
from shared.store import HASTY_S, connect


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a worker; all but the sorter are threads."""

    names: threading.Thread  #: looks up the DNS names of ignoreip
    sorter: Sorter  #: used by the intake
    counter: Counter
    intake: Intake
    maintenance: Maintenance
    mailer: Mailer | None  #: None when mail.to is empty

    def start(self) -> None:
        """Start all threads."""
        for thread in (self.names, self.counter, self.intake, self.maintenance, self.mailer):
            if thread is not None:
                thread.start()

    def finish(self, within_s: float) -> None:
        """Stop reading datagrams, count what was read for at most `within_s`, and end."""
        self.intake.stop()
        self.maintenance.stop()
        if self.mailer is not None:
            self.mailer.stop()
        self.counter.finish(within_s)

    def moving(self, within_s: float) -> bool:
        """Whether intake, counter and maintenance live, and intake and counter began a new turn within `within_s`."""
        now = time.monotonic()
        alive = all(thread.is_alive() for thread in (self.intake, self.counter, self.maintenance))
        return alive and all(now - thread.moved_at < within_s for thread in (self.intake, self.counter))


def assemble(inherited: Inherited) -> Parts:
    """The parts of one worker; they connect at their first command. SettingsError when redis.url is no URL of Redis."""
    settings, node = inherited.settings, inherited.settings.receiver.node
    names = names_of(settings)
    exempt = Exemptions(settings, names)
    beside = connect(settings, f"maintenance-{node}", HASTY_S)
    probes = Probes(beside, node)
    sizes = Sizes(beside)
    troubles = {"counting": ""}  # what goes wrong now; maintenance tells it, and adds what it finds itself
    counter = Counter(settings, inherited.spool, connect(settings, f"receiver-{node}", HASTY_S), troubles)
    sorter = Sorter(settings, inherited.rulebook, exempt, probes.note, sizes.note)
    return Parts(
        names,
        sorter,
        counter,
        Intake(inherited.sockets, inherited.spool, sorter, counter),
        Maintenance(
            beside,
            inherited,
            Learn(exempt.learn, counter.learn_hot),
            Watch(beside, node, probes, inherited.spool),
            sizes,
            troubles,
        ),
        Mailer(connect(settings, f"mailer-{node}", HASTY_S), settings.mail, node) if settings.mail.to else None,
    )
