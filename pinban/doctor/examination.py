"""Examines this host, Redis and the daemons for faults that lose bans or failures without an error. Changes nothing."""

from __future__ import annotations

import importlib.util
import re
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pinban.deployment import Operator
from pinban.doctor.finding import Finding
from pinban.doctor.nginx import examine as examine_nginx
from shared.durations import Milliseconds
from shared.errors import DecodeError, ForbiddenError, StoreError
from shared.events import Heartbeat, decode
from shared.settings import Settings
from shared.store import PATIENT_S, Store, connect

#: nginx's configuration, if the operator names no other file.
NGINX = Path("/etc/nginx/nginx.conf")

#: Clocks that differ by more than this make logs hard to compare, ms. Nothing else depends on them: pinban uses the
#: time of Redis.
_SKEW_MS = 5_000

#: Round trips longer than this make bans late, ms.
_SLOW_MS = 5.0

#: How long to wait for a heartbeat, s. One comes every two seconds.
_HEARTBEAT_S = 5.0

#: The oldest version of Redis that has all the commands that pinban uses.
_OLDEST = (6, 2)

_RMEM_MAX = Path("/proc/sys/net/core/rmem_max")
_MAX_DGRAM_QLEN = Path("/proc/sys/net/unix/max_dgram_qlen")

#: So many messages must be able to wait in a unix socket; systemd/sysctl.d sets it.
DGRAM_QLEN = 512


def examine(settings: Settings, nginx: Path | None = None) -> Iterator[Finding]:
    """Every finding; one that may explain another comes before it."""
    yield from _host(settings)
    if nginx is not None or NGINX.exists():
        yield from examine_nginx(nginx or NGINX, settings.enforcer)
    try:
        with connect(settings, "doctor", PATIENT_S) as store:
            yield from _redis(store)
            yield _heartbeat(store)
        yield from _daemons(settings)
    except StoreError as error:
        yield Finding("bad", "redis", str(error))


def _host(settings: Settings) -> Iterator[Finding]:
    if importlib.util.find_spec("msgpack._cmsgpack") is None:
        yield Finding("note", "host", "msgpack has no C extension here and is many times slower; install its wheel")
    wanted = settings.receiver.receive_buffer
    most = _setting_of(_RMEM_MAX)
    if most is not None and most < wanted:
        yield Finding(
            "note",
            "host",
            f"net.core.rmem_max is {most}: without CAP_NET_ADMIN a receiver here gets a buffer of that size instead of"
            f" {wanted}; set sysctl net.core.rmem_max={wanted}",
        )
    waiting = _setting_of(_MAX_DGRAM_QLEN)
    sockets = [text for text in settings.receiver.listen if text.startswith("unix:")]
    if sockets and waiting is not None and waiting < DGRAM_QLEN:
        yield Finding(
            "bad",
            "host",
            f"net.unix.max_dgram_qlen is {waiting}: no more lines can wait in {sockets[0]}, and nginx drops the rest,"
            " for example while the receiver reloads; set sysctl"
            f" net.unix.max_dgram_qlen={DGRAM_QLEN} (systemd/sysctl.d has it), then restart the receiver",
        )


def _setting_of(file: Path) -> int | None:
    """A number that the kernel tells; None when it tells none."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _redis(store: Store) -> Iterator[Finding]:
    took = []
    for _ in range(20):
        began = time.perf_counter()
        store.call("PING")
        took.append((time.perf_counter() - began) * 1_000)
    skew = abs(store.now_ms() - time.time_ns() // 1_000_000)
    median = statistics.median(took)
    answers = f"answers in {median:.1f} ms (median of 20)"
    if median > _SLOW_MS:
        yield Finding(
            "note",
            "redis",
            f"{answers}; a ban waits for several answers, one after the other; put Redis nearer, or look at its load",
        )
    else:
        yield Finding("ok", "redis", answers)
    if skew > _SKEW_MS:
        yield Finding("note", "redis", f"its clock and this host's differ by {Milliseconds(skew)}; run NTP on both")
    try:
        facts: Any = store.call("INFO")
    except ForbiddenError:
        yield Finding(
            "note",
            "redis",
            "its ACL forbids INFO, so version, memory and persistence were not checked; check them by hand",
        )
        return
    version = str(facts.get("redis_version", ""))
    if _too_old(version):
        yield Finding("bad", "redis", f"is version {version}; pinban needs 6.2 or newer; upgrade it")
    if not facts.get("maxmemory"):
        yield Finding("note", "redis", "maxmemory is not set: very many addresses could take all memory there; set it")
    if not facts.get("aof_enabled"):
        yield Finding("note", "redis", "appendonly is off: a restart loses bans and counters; set appendonly yes")


def _too_old(version: str) -> bool:
    numbers = re.match(r"(\d{1,4})(?:\.(\d{1,4}))?", version, re.ASCII)  # a fork may have no number: let it pass
    return numbers is not None and (int(numbers[1]), int(numbers[2] or 0)) < _OLDEST


def _heartbeat(store: Store) -> Finding:
    with store.subscribed(store.keys.channel) as channel:
        deadline = time.monotonic() + _HEARTBEAT_S
        while (left := deadline - time.monotonic()) > 0:
            came = channel.next(left)
            if came is not None and came[0] == "message" and _is_heartbeat(came[1]):
                return Finding("ok", "receivers", "a heartbeat came over the channel")
    return Finding(
        "bad",
        "receivers",
        f"no heartbeat in {_HEARTBEAT_S:.0f} s: no receiver is running, or none reaches Redis;"
        " start one, or read its log",
    )


def _is_heartbeat(data: bytes) -> bool:
    try:
        return isinstance(decode(data), Heartbeat)
    except DecodeError:
        return False


def _daemons(settings: Settings) -> Iterator[Finding]:
    report = Operator(settings).status()
    for problem in report["problems"]:
        yield Finding("bad", "daemons", problem)
    for note in report["notes"]:
        yield Finding("note", "daemons", note)
    alive = [node["name"] for node in report["nodes"] if node["alive"]]
    if alive:
        yield Finding("ok", "daemons", f"alive: {', '.join(alive)}")
