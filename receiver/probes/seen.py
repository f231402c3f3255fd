"""What came of the RPs' numbered beats: this worker's share on its way to Redis, the whole of it read from there.

Judging it is receiver/probes/lost.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable

import redis

from receiver.probes.lost import WINDOW, Fault, Route, decode_route, faults, watched
from receiver.spool import Journal
from shared.logs import Sparingly
from shared.nodes import KEPT_MS, NodeReader
from shared.probe import Beat
from shared.settings import Settings
from shared.store import Keys, lua, now_ms, translated, understood

#: RPs whose beats a worker holds, and routes that the ledger keeps: forged names must fill neither.
_MOST_RPS, _MOST_ROUTES = 256, 1_024

#: Beats noted in one call of the script at most.
_BATCH = 200

#: How often the routes are judged, s; and how long after the receiver's start the first time: beats come every 10 s at
#: least, and what was lost while no receiver was there is no fault any more.
_LOOK_EVERY_S, _FIRST_LOOK_S = 5.0, 12.0

_log = logging.getLogger("pinban.receiver")


class Beats:
    """One thread notes, another takes to Redis; while that is away a window of each RP's beats is kept and no more."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._key = Keys(settings.redis.prefix).beats
        self._script = client.register_script(lua("receiver.probes", "seen"))
        self._lock = threading.Lock()
        self._noted: dict[str, dict[Beat, int]] = {}  #: RP -> beat -> when it came, monotonic ms; the oldest first
        self._sparingly = Sparingly(_log, every_s=60.0)

    def note(self, beat: Beat) -> None:
        """This beat has come."""
        self._keep([(beat, time.monotonic_ns() // 1_000_000)])

    def flush(self) -> None:
        """Take to Redis what was noted. StoreError leaves it for another time; to repeat is safe."""
        with self._lock:
            noted, self._noted = self._noted, {}
        rows = [row for beats in noted.values() for row in beats.items()]
        while rows:
            try:
                self._tell(rows[:_BATCH])
            except Exception:
                self._keep(rows)
                raise
            del rows[:_BATCH]

    def _tell(self, rows: list[tuple[Beat, int]]) -> None:
        arguments: list[str | int] = [self._settings.receiver.node, _MOST_ROUTES, WINDOW, KEPT_MS]
        now = time.monotonic_ns() // 1_000_000
        for beat, came_ms in rows:
            arguments += [beat.rp, beat.instance, beat.number, beat.asked_ms, now - came_ms]
        with translated(self._settings):
            left_out = self._script([self._key], arguments)
        if left_out:
            self._sparingly.warning("routes", "left out beats of more than %d routes; who sends them?", _MOST_ROUTES)

    def _keep(self, rows: Iterable[tuple[Beat, int]]) -> None:
        with self._lock:
            for beat, came_ms in rows:
                if beat.rp not in self._noted and len(self._noted) >= _MOST_RPS:
                    self._sparingly.warning("rps", "left out beats of more than %d RPs; who sends them?", _MOST_RPS)
                    continue
                beats = self._noted.setdefault(beat.rp, {})
                beats.setdefault(beat, came_ms)
                if len(beats) > WINDOW:
                    del beats[next(iter(beats))]


class Watch:
    """The keeper's part: takes beats to Redis, and says in the log what is wrong with the routes, once, and its end."""

    def __init__(self, settings: Settings, client: redis.Redis, beats: Beats, journal: Journal) -> None:
        self._settings = settings
        self._client = client
        self._beats = beats
        self._journal = journal
        self._nodes = NodeReader(settings, client)
        self._look_at = journal.made_at + _FIRST_LOOK_S
        self._standing: dict[tuple[str, str], Fault] = {}

    def round(self) -> None:
        """What is due. StoreError when Redis fails; then another round makes good."""
        self._beats.flush()
        now = time.monotonic()
        if now >= self._look_at and self._journal.foremost():
            self._look_at = now + _LOOK_EVERY_S
            nodes = self._nodes.read()
            self._hear(faults(read_routes(self._settings, self._client), nodes), {n.name for n in watched(nodes)})

    def _hear(self, found: Iterable[Fault], rps: Collection[str]) -> None:
        ours = ("", self._settings.receiver.node)
        now = {(fault.rp, fault.receiver): fault for fault in found if fault.receiver in ours}
        for key, fault in now.items():
            if key not in self._standing or self._standing[key].kind != fault.kind:
                _log.error("%s", fault.text)
        for key in self._standing.keys() - now.keys():
            rp, _ = key
            if rp in rps:
                _log.warning("%s: the lines of its nginx come again", rp)
            else:  # its enforcer is gone, so nobody knows
                now[key] = self._standing[key]
        self._standing = now


def read_routes(settings: Settings, client: redis.Redis) -> list[Route]:
    """Every route of the last day, by RP and receiver. StoreError when Redis fails."""
    with understood(settings):
        now = now_ms(client)
        held = client.hgetall(Keys(settings.redis.prefix).beats)
    found = [decode_route(name, value, now) for name, value in held.items()]
    kept = [route for route in found if route is not None and route.silent_ms <= KEPT_MS]
    return sorted(kept, key=lambda route: (route.rp, route.receiver))
