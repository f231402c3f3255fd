"""One run: the schedule over the site under traffic; then all faults end, and all counts must add up."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from functools import partial

import redis

from tests.chaos.faults import begin
from tests.chaos.schedule import Fault, draw
from tests.chaos.site import ALLOWED, IGNORED, Site
from tests.chaos.traffic import Traffic
from tests.lab.accounts import arrived, totals, unbalanced
from tests.lab.datagrams import Sender, failure
from tests.lab.kernel import members, timeouts
from tests.lab.lab import ReverseProxy
from tests.lab.process import LabError, lasts, wait_until
from tests.lab.views import await_ban, node, operate

#: Bans with less time left may have ended in the kernel: its timeouts are whole seconds, and the enforcer lets the last
#: three of them expire, ms.
ENDING_MS = 4_000

#: How long a daemon may not report, s.
SILENT_S = 3.0

_EXEMPT = [ipaddress.ip_network(network) for network in (IGNORED, ALLOWED)]


class ChaosError(Exception):
    """Some counts do not add up; the message has the seed and the schedule."""


def run(seed: int, seconds: float, say: Callable[[str], object] = print) -> dict[str, int]:
    """Run a seed; returns the receiver's totals at the end. ChaosError has all that is needed to run it again."""
    schedule = draw(seed, seconds)
    try:
        with Site(3, seed) as site:
            return _live_through(site, seed, schedule, seconds, say)
    except (AssertionError, LabError, OSError, redis.RedisError) as error:
        plan = "\n".join(str(fault) for fault in schedule)
        again = f"python -m tests.chaos --seed {seed} --minutes {seconds / 60:g}"
        raise ChaosError(f"{error}\n{again}\n{plan}\n{''.join(getattr(error, '__notes__', []))}") from error


def _live_through(
    site: Site, seed: int, schedule: list[Fault], seconds: float, say: Callable[[str], object]
) -> dict[str, int]:
    assert operate(site, "allow", ALLOWED).returncode == 0
    for process in site.processes:
        assert process.running, process.name
    watch = _Watch(site)
    traffic = Traffic(site, seed)
    began = time.monotonic()
    try:
        _suffer(site, schedule, began, say)
        lasts(seconds, began)
    finally:
        traffic.stop()
    say(f"{time.monotonic() - began:7.1f} s  all faults are over; now the counts")
    _settle(site)
    found = _balance(site)
    _works_as_ever(site)
    watch.stop()
    for process in site.processes:
        assert process.running, f"{process.name} ended"
        assert "Traceback" not in process.log.read_text(errors="replace"), process.tail()
    return found


def _suffer(site: Site, schedule: list[Fault], began: float, say: Callable[[str], object]) -> None:
    """Let each fault begin and end at its time, ends of others in between."""
    ends: list[tuple[float, Callable[[], object]]] = []

    def until(at_s: float) -> None:
        while ends and ends[0][0] <= at_s:
            due, undo = ends.pop(0)
            lasts(due, began)
            undo()
        lasts(at_s, began)

    for fault in schedule:
        until(fault.at_s)
        say(str(fault))
        ends.append((fault.at_s + fault.lasts_s, begin(site, fault.kind, fault.target)))
        ends.sort(key=lambda end: end[0])
    until(max((at_s for at_s, _ in ends), default=0))


def _settle(site: Site) -> None:
    """Equation two: kernel set == bans of the ledger, on every RP."""
    for rp in site.rps:
        try:
            wait_until(partial(_agrees, site, rp), f"{rp.host.name} agrees")
        except LabError as error:
            too_many, missing = _difference(site, rp)
            raise LabError(f"{error}: only in the kernel {too_many}, only in the ledger {missing}") from error


def _agrees(site: Site, rp: ReverseProxy) -> bool:
    return _difference(site, rp) == (set(), set())


def _difference(site: Site, rp: ReverseProxy) -> tuple[set[str], set[str]]:
    """What only the kernel has, or has for too long, and what only the ledger has; without bans that end now."""
    with site.redis.client() as client:
        now_ms = client.time()[0] * 1_000
        rows = client.zrange("{pinban}:bans", 0, -1, withscores=True)
        unbanned = {fields[b"network"].decode() for _, fields in client.xrange("{pinban}:history") if b"why" in fields}
    left = timeouts(rp.host.namespace)
    until = {member.decode(): until_ms - now_ms for member, until_ms in rows}
    over = {member for member, seconds in left.items() if seconds * 1_000 > max(until.get(member, 0), 0) + ENDING_MS}
    if site.restarted:  # a new epoch ends no ban, so a kernel that missed an unban keeps the ban until its timeout
        over -= unbanned
    return over, {member for member, left_ms in until.items() if left_ms > ENDING_MS} - left.keys()


def _balance(site: Site) -> dict[str, int]:
    """Equation one: sent == counted + refused + ignored + other outcomes + queue drops + kernel drops."""
    wait_until(site.is_idle, "no datagram is under way")
    sent = site.passed()
    try:
        wait_until(lambda: arrived(totals(site.redis)) >= sent, "every datagram is accounted for")
        wait_until(lambda: totals(site.redis)["queued"] == 0, "nothing waits")
    except LabError as error:
        raise LabError(f"{error}; {sent} were sent: {totals(site.redis)}") from error
    found = totals(site.redis)
    assert not unbalanced(found, sent), unbalanced(found, sent)
    return found


def _works_as_ever(site: Site) -> None:
    """Every daemon reports no trouble, and five failures are a ban."""
    names = ["rx1", *(rp.host.name for rp in site.rps)]
    wait_until(lambda: all(_is_well(site, name) for name in names), "all daemons are well")
    with Sender(site.rps[0].host.namespace, site.entrance(site.rps[0])) as sender:
        for n in range(5):
            sender.send(failure("198.51.100.250", f"at-last-{n}"))
    await_ban(site, "198.51.100.250")


def _is_well(site: Site, name: str) -> bool:
    fields = node(site.redis, name)
    with site.redis.client() as client:
        silent_s = client.time()[0] - int(fields["seen"]) / 1_000
    return silent_s < SILENT_S and fields.get("trouble", "") == ""


class _Watch:
    """Looks at every kernel all the time: no exempt address may ever be in one."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ended = threading.Event()
        self._watching = site.core.namespace.start(self._watch)

    def stop(self) -> None:
        """Return, or raise what was seen."""
        self._ended.set()
        self._watching.result()

    def _watch(self) -> None:
        while not self._ended.wait(0.5):
            for rp in self._site.rps:
                for member in members(rp.host.namespace):
                    network = ipaddress.ip_network(member)
                    exempt = any(network.version == s.version and network.overlaps(s) for s in _EXEMPT)
                    assert not exempt, f"{rp.host.name} drops {member}"
