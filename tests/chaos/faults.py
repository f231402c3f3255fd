"""What each fault of the schedule does to a site, and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import redis

from tests.chaos.schedule import KINDS
from tests.chaos.site import Site
from tests.chaos.traffic import flood
from tests.lab.proxy import Weather, _Proxy
from tests.lab.redis_server import RedisServer

Undo = Callable[[], object]


def begin(site: Site, kind: str, target: int) -> Undo:
    """Begin a fault; returns the function that ends it."""
    return _FAULTS[kind](site, target)


def _nothing() -> None:
    """The fault is over as soon as it has happened."""


def _redis_frozen(site: Site, _: int) -> Undo:
    site.redis.process.signal(signal.SIGSTOP)
    return site.redis.thaw


def _redis_killed(site: Site, _: int) -> Undo:
    site.restarted = True
    site.redis.kill()

    def start() -> None:
        if not site.redis.process.running:
            site.redis.start()
            site.redis.await_ready()

    return start


def _command(*words: str | int) -> Callable[[Site, int], Undo]:
    def fault(site: Site, _: int) -> Undo:
        _ask(site.redis, *words)
        return _nothing

    return fault


def _redis_full(site: Site, _: int) -> Undo:
    _ask(site.redis, "CONFIG", "SET", "maxmemory-policy", "noeviction")
    _ask(site.redis, "CONFIG", "SET", "maxmemory", "1mb")
    return lambda: _ask(site.redis, "CONFIG", "SET", "maxmemory", "0")


def _ask(server: RedisServer, *words: str | int) -> None:
    """Send a command; the server may be frozen or dead by another fault."""
    with server.client(timeout=0.3) as client, suppress(redis.RedisError):
        client.execute_command(*words)


def _weather(links: Callable[[Site], list[_Proxy]], **faults: float) -> Callable[[Site, int], Undo]:
    def fault(site: Site, target: int) -> Undo:
        some = links(site)
        link = some[target % len(some)]
        link.weather = Weather(**faults)  # type: ignore[arg-type]
        return link.clear

    return fault


def _to_redis(site: Site) -> list[_Proxy]:
    return [*site.to_redis]


def _to_receiver(site: Site) -> list[_Proxy]:
    return [*site.to_receiver]


def _link_cut(site: Site, target: int) -> Undo:
    site.to_redis[target % len(site.to_redis)].cut()
    return _nothing


def _rp_partitioned(site: Site, target: int) -> Undo:
    """By rules in the mangle table, which pinban does not use."""
    host = site.rps[target % len(site.rps)].host.namespace
    rules = (["INPUT", "-i", "inside"], ["OUTPUT", "-o", "inside"])

    def cut(verb: str) -> None:
        for rule in rules:
            host.run(["iptables-legacy", "-w", "-t", "mangle", verb, *rule, "-j", "DROP"], check=False)

    cut("-A")
    return lambda: cut("-D")


def _worker(number: signal.Signals) -> Callable[[Site, int], Undo]:
    def fault(site: Site, target: int) -> Undo:
        assert site.receiver
        workers = site.receiver.workers()
        return _signal(workers[target % len(workers)], number) if workers else _nothing

    return fault


def _receiver(number: signal.Signals) -> Callable[[Site, int], Undo]:
    def fault(site: Site, _: int) -> Undo:
        assert site.receiver
        return _signal(site.receiver.pid, number)

    return fault


def _enforcer_stopped(site: Site, target: int) -> Undo:
    enforcer = site.rps[target % len(site.rps)].enforcer
    assert enforcer
    return _signal(enforcer.pid, signal.SIGSTOP) if enforcer.running else _nothing


def _enforcer_killed(site: Site, target: int) -> Undo:
    enforcer = site.rps[target % len(site.rps)].enforcer
    assert enforcer
    enforcer.kill()
    return lambda: None if enforcer.running else enforcer.start()


def _bans_flushed_in_kernel(site: Site, target: int) -> Undo:
    site.rps[target % len(site.rps)].host.namespace.run(["ipset", "flush", "pinban4"], check=False)
    return _nothing


def _flood(site: Site, target: int) -> Undo:
    flood(site, site.rps[target % len(site.rps)])
    return _nothing


def _signal(pid: int, number: signal.Signals) -> Undo:
    """Send the signal; at the end a stopped process goes on, if it still exists."""

    def go_on() -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    with suppress(ProcessLookupError):
        os.kill(pid, number)
    return go_on if number == signal.SIGSTOP else _nothing


_FAULTS: dict[str, Callable[[Site, int], Undo]] = {
    "redis_frozen": _redis_frozen,
    "redis_killed": _redis_killed,
    "redis_full": _redis_full,
    "scripts_flushed": _command("SCRIPT", "FLUSH"),
    "subscribers_cut": _command("CLIENT", "KILL", "TYPE", "pubsub"),
    "clients_cut": _command("CLIENT", "KILL", "TYPE", "normal"),
    "link_frozen": _weather(_to_redis, frozen=True),
    "link_slow": _weather(_to_redis, delay_s=0.15),
    "link_cut": _link_cut,
    "rp_partitioned": _rp_partitioned,
    "rp_partitioned_for_a_minute": _rp_partitioned,
    "datagrams_dropped": _weather(_to_receiver, drop=0.3),
    "datagrams_doubled": _weather(_to_receiver, duplicate=0.5),
    "datagrams_disordered": _weather(_to_receiver, reorder=0.5, delay_s=0.02),
    "datagrams_garbled": _weather(_to_receiver, garble=0.5),
    "datagrams_held_back": _weather(_to_receiver, frozen=True),
    "worker_killed": _worker(signal.SIGKILL),
    "worker_stopped": _worker(signal.SIGSTOP),
    "arbiter_stopped": _receiver(signal.SIGSTOP),
    "receiver_reloaded": _receiver(signal.SIGHUP),
    "enforcer_killed": _enforcer_killed,
    "enforcer_stopped": _enforcer_stopped,
    "bans_flushed_in_kernel": _bans_flushed_in_kernel,
    "flood": _flood,
}

assert _FAULTS.keys() == KINDS.keys()
