"""Which of the RPs' numbered probes came: each worker writes its share to Redis, and reads all of it from there.

receiver/probes/lost.py judges it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable

from receiver.probes.lost import WINDOW, Fault, LogPath, decode_path, faults, watched
from receiver.spool import Spool
from shared.errors import BadDataError, StoreError
from shared.logs import Sparingly
from shared.nodes import KEPT_MS, read_nodes
from shared.probe import Probe
from shared.store import Store, Word

#: The most RPs whose probes a worker holds, and the most paths in Redis: forged names must fill neither.
_MOST_RPS, _MOST_PATHS = 256, 1_024

#: Probes noted in one call of the script at most.
_BATCH = 200

#: How often the paths are judged, s; and how long after the receiver's start for the first time: by then each RP, which
#: sends probes every 10 s at least, has sent new ones. What was lost while no receiver ran is no fault any more.
_LOOK_EVERY_S, _FIRST_LOOK_S = 5.0, 12.0

_log = logging.getLogger("pinban.receiver")


class Probes:
    """One thread notes probes, another writes them to Redis. While Redis is away, each RP's last WINDOW are kept."""

    def __init__(self, store: Store, receiver: str) -> None:
        self._receiver = receiver
        self._key = store.keys.probes
        self._script = store.script("receiver.probes", "seen")
        self._lock = threading.Lock()
        self._noted: dict[str, dict[Probe, int]] = {}  #: RP -> probe -> when it came, monotonic ms; the oldest first
        self._sparingly = Sparingly(_log, every_s=60.0)

    def note(self, probe: Probe) -> None:
        """This probe has come."""
        self._keep([(probe, time.monotonic_ns() // 1_000_000)])

    def flush(self) -> None:
        """Write to Redis what was noted. At a StoreError it is kept for the next call; to repeat is safe."""
        with self._lock:
            noted, self._noted = self._noted, {}
        rows = [row for probes in noted.values() for row in probes.items()]
        while rows:
            try:
                self._tell(rows[:_BATCH])
            except Exception:
                self._keep(rows)
                raise
            del rows[:_BATCH]

    def _tell(self, rows: list[tuple[Probe, int]]) -> None:
        arguments: list[Word] = [self._receiver, _MOST_PATHS, WINDOW, KEPT_MS]
        now = time.monotonic_ns() // 1_000_000
        for probe, came_ms in rows:
            arguments += [probe.rp, probe.instance, probe.number, probe.asked_ms, now - came_ms]
        left_out = self._script([self._key], arguments)
        if left_out:
            self._sparingly.warning("paths", "left out probes: more than %d log paths; who sends them?", _MOST_PATHS)

    def _keep(self, rows: Iterable[tuple[Probe, int]]) -> None:
        with self._lock:
            for probe, came_ms in rows:
                if probe.rp not in self._noted and len(self._noted) >= _MOST_RPS:
                    self._sparingly.warning("rps", "left out probes: more than %d RPs; who sends them?", _MOST_RPS)
                    continue
                probes = self._noted.setdefault(probe.rp, {})
                probes.setdefault(probe, came_ms)
                if len(probes) > WINDOW:
                    del probes[next(iter(probes))]


class Watch:
    """For the maintenance thread: writes probes to Redis; logs when a fault of a log path begins, and when it ends."""

    def __init__(self, store: Store, receiver: str, probes: Probes, spool: Spool) -> None:
        self._store = store
        self._receiver = receiver
        self._probes = probes
        self._spool = spool
        self._look_at = spool.made_at + _FIRST_LOOK_S
        self._standing: dict[tuple[str, str], Fault] = {}

    def round(self) -> None:
        """Do what is due. StoreError when Redis fails; the next round does it then."""
        self._probes.flush()
        now = time.monotonic()
        if now >= self._look_at and self._spool.leads():
            nodes = read_nodes(self._store)
            self._hear(faults(read_paths(self._store), nodes), {n.name for n in watched(nodes)})
            self._look_at = now + _LOOK_EVERY_S

    def _hear(self, found: Iterable[Fault], rps: Collection[str]) -> None:
        ours = ("", self._receiver)
        now = {(fault.rp, fault.receiver): fault for fault in found if fault.receiver in ours}
        for key, fault in now.items():
            if key not in self._standing or self._standing[key].kind != fault.kind:
                _log.error("%s", fault.text)
        for key in self._standing.keys() - now.keys():
            rp, _ = key
            if rp in rps:
                _log.warning("%s: the lines of its nginx come again", rp)
            else:  # its enforcer is gone: nobody knows whether lines come
                now[key] = self._standing[key]
        self._standing = now


def read_paths(store: Store) -> list[LogPath]:
    """Every log path of the last day, by RP and receiver. StoreError when Redis fails."""
    now_ms = store.now_ms()
    [held] = store.each([("HGETALL", store.keys.probes)])
    if isinstance(held, BadDataError):  # no hash: receivers say so, and no path is known
        return []
    if isinstance(held, StoreError):
        raise held
    found = [decode_path(name, value, now_ms) for name, value in held.items()]
    kept = [path for path in found if path is not None and path.silent_ms <= KEPT_MS]
    return sorted(kept, key=lambda path: (path.rp, path.receiver))
