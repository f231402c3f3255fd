"""The thread that runs once a second: writes the node's hash, checks the firewall every 30 s or when it looks wrong."""

from __future__ import annotations

import logging
import os
import threading
import time
from importlib.metadata import version
from pathlib import Path

from enforcer.agent import Agent
from enforcer.firewall import Capacity
from enforcer.follower import Follower
from enforcer.probes import Probes
from enforcer.witness import Witness
from shared.errors import FirewallError, StoreError
from shared.logs import Sparingly
from shared.nodes import NodeWriter
from shared.settings import Settings
from shared.store import HASTY_S, connect

#: How often the node's hash is written, s.
_EVERY_S = 1.0

#: How often the firewall is compared with the ledger, s.
_CHECK_EVERY_S = 30.0

#: After a check no other follows for this many times as long as it took: neither constant edits of the firewall nor a
#: million bans in it must keep us busy.
_REST = 5

_log = logging.getLogger("pinban.enforcer")


class Maintenance(threading.Thread):
    """Runs until told to stop."""

    def __init__(
        self,
        settings: Settings,
        agent: Agent,
        follower: Follower,
        backend: str,
        why: str,
        probes: Probes,
        witness: Witness,
        alive: Path | None = None,
    ) -> None:
        """`why` says why this backend was chosen; `alive` is a file to write every second, see main."""
        super().__init__(name="maintenance", daemon=True)
        self._settings = settings
        self._agent = agent
        self._follower = follower
        self._backend = backend
        self._backend_why = why
        self._probes = probes
        self._witness = witness
        self._alive = alive
        store = connect(settings, f"maintenance-{settings.enforcer.node}", HASTY_S)
        self._writer = NodeWriter(store, settings.enforcer.node, probes.instance, probes.clock)
        self._stopping = threading.Event()
        self._sparingly = Sparingly(_log, every_s=10.0)
        self.moved_at = time.monotonic()  #: when the loop last came round, s

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()

    def run(self) -> None:
        """Check and report until told to stop."""
        checked_at, took_s = time.monotonic(), 0.0
        while not self._stopping.is_set():
            self.moved_at = time.monotonic()
            try:
                rested_s = time.monotonic() - checked_at
                due = rested_s >= max(_CHECK_EVERY_S, _REST * took_s)
                if due or (self._agent.check_wanted.is_set() and rested_s >= _REST * took_s):
                    began = time.monotonic()
                    try:
                        self._agent.check()
                    finally:
                        checked_at = time.monotonic()
                        took_s = checked_at - began
                self._report()
            except FirewallError as error:
                self._sparingly.warning("firewall", "%s", error)
            except StoreError as error:
                if not self._follower.trouble:  # else the follower logs it
                    self._sparingly.warning("store", "cannot tell how this node is: %s", error)
            except Exception:  # noqa: BLE001  one bug must not end this thread
                self._sparingly.bug("bug", "maintenance failed: a bug in pinban")
            self._stopping.wait(_EVERY_S)

    def _look(self) -> tuple[Capacity, str]:
        """How full the firewall is, and what is wrong with it."""
        try:
            capacity = self._agent.tend()
        except FirewallError as error:
            return Capacity(0), str(error)
        self._show_life()
        found = [capacity.alarm]
        if self._agent.unfit:
            found.append(f"{self._agent.unfit} bans did not fit into the firewall")
        return capacity, "; ".join(filter(None, found))

    def _show_life(self) -> None:
        """Write the file of --alive, since the kernel has answered; not before it holds a ledger."""
        if self._alive is None or self._agent.applied[1] < 0:
            return
        try:
            self._alive.parent.mkdir(parents=True, exist_ok=True)
            self._alive.write_text(os.readlink("/proc/thread-self/ns/net"), encoding="ascii")
        except OSError as error:
            self._sparingly.warning("alive", "%s cannot be written: %s", self._alive, error.strerror)

    def _report(self) -> None:
        epoch, rev = self._agent.applied
        capacity, found = self._look()
        if found:
            self._sparingly.warning("firewall", "%s", found)
        heard_at = self._follower.heard_at
        fields: dict[str, str | int] = {
            "kind": "enforcer",
            "version": version("pinban"),
            "backend": self._backend,
            "backend_why": self._backend_why,
            "epoch": epoch,
            "applied_rev": rev,
            "bans": capacity.bans,
            "set_capacity": capacity.size,
            "set_fill": capacity.fill,
            "unfit": self._agent.unfit,
            "heartbeat_age_ms": -1 if heard_at is None else int((time.monotonic() - heard_at) * 1_000),
            "trouble": "; ".join(filter(None, (self._follower.trouble, found))),
            "probes_sent": self._probes.sent,
            "probe_every_ms": self._probes.every_ms,
            "probe_trouble": self._probes.trouble,
            "addresses": self._witness.addresses,
            "witness_trouble": self._witness.trouble,
        }
        for name in ("events", "gaps", "resyncs", "repairs", "bad_events", "exempt", "clock_steps"):
            fields[name] = self._agent.tally[name]
        if not self._writer.write(fields):
            self._sparingly.warning(
                "name",
                "another daemon has the name %s too; change enforcer.node on one of them",
                self._settings.enforcer.node,
            )
        if step := self._writer.stepped():
            self._agent.tally["clock_steps"] += 1
            self._follower.resync_wanted.set()
            _log.warning("Redis' clock was set by %+.1f s, or this host slept; reads the ledger again", step / 1_000)
