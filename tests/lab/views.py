"""What an operator sees of a lab: the ledger and the counters in Redis, the nodes, the commands."""

from __future__ import annotations

import secrets
import subprocess
import sys
from functools import partial
from pathlib import Path

from shared.ledger import Ledger
from shared.store import Store
from tests.lab.clients import guess
from tests.lab.daemons import set_constants
from tests.lab.http1 import Answer
from tests.lab.kernel import members
from tests.lab.lab import Lab
from tests.lab.process import PATIENCE_S, wait_until
from tests.lab.redis_server import RedisServer


def program(name: str) -> str:
    """A command of pinban."""
    return str(Path(sys.executable).with_name(name))


def operate(lab: Lab, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `pinban` with these words on the receiver's host."""
    settings = str(lab.directory / "receiver.toml")
    return lab.core.namespace.run([program("pinban"), "-c", settings, *words], check=False)


def counted(server: RedisServer, address: str) -> int:
    """The value of `GET pinban:count:{address}:pin`; 0 without one."""
    with server.client() as client:
        return int(client.get(f"pinban:count:{{{address}}}:pin") or 0)


def window(server: RedisServer, address: str) -> dict[str, float]:
    """The failures of an address: id -> ms of Redis TIME."""
    with server.client() as client:
        members = client.zrange(f"pinban:window:{{{address}}}:pin", 0, -1, withscores=True)
        return {member.decode().split(" ")[0]: score for member, score in members}


def ledger(server: RedisServer) -> set[str]:
    """Who is banned now."""
    with server.client() as client:
        now_ms = client.time()[0] * 1_000
        return {member.decode() for member in client.zrangebyscore("{pinban}:bans", now_ms, "+inf")}


def node(server: RedisServer, name: str) -> dict[str, str]:
    """The hash that a daemon writes about itself."""
    with server.client() as client:
        held = client.hgetall(f"{{pinban}}:node:{name}")
        return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in held.items()}


def number(server: RedisServer, name: str, field: str) -> int:
    """A number in a daemon's hash; 0 while it has not reported."""
    return int(node(server, name).get(field, 0))


def dropped_everywhere(lab: Lab, address: str) -> bool:
    """Whether the kernel of every reverse proxy holds this ban."""
    return all(address in members(rp.host.namespace) for rp in lab.rps)


def any_drops(lab: Lab, address: str) -> bool:
    """Whether the kernel of some reverse proxy holds this ban."""
    return any(address in members(rp.host.namespace) for rp in lab.rps)


def await_ban(lab: Lab, address: str, seconds: float = PATIENCE_S) -> None:
    """Return as soon as every kernel drops it; LabError after the given seconds."""
    wait_until(partial(dropped_everywhere, lab, address), f"every kernel drops {address}", seconds)


def new_source(lab: Lab, last: int) -> str:
    """One more address for the attacker's host: 198.51.100.last."""
    address = f"198.51.100.{last}"
    lab.attacker.namespace.configure(f"addr add {address}/24 dev outside")
    return address


def new_network(lab: Lab, network: str) -> str:
    """All addresses of one more IPv6 /48 for the attacker's host; the network is named by its first three groups."""
    lab.attacker.namespace.call(lambda: Path("/proc/sys/net/ipv6/ip_nonlocal_bind").write_text("1"))
    lab.attacker.namespace.configure(f"route add local {network}::/48 dev lo")
    for rp in lab.rps:
        rp.host.namespace.configure(f"route add {network}::/48 via {lab.attacker.outside6} dev outside")
    return network


def guesses(lab: Lab, source: str, pins: range, *, timeout: float = 5.0) -> list[Answer | None]:
    """One guess for each PIN, through each reverse proxy in turn."""
    addresses = lab.addresses()

    def run() -> list[Answer | None]:
        return [
            guess(addresses[turn % len(addresses)], f"9{pin:05}", source=source, timeout=timeout)
            for turn, pin in enumerate(pins)
        ]

    return lab.attacker.namespace.call(run)


def unanswered(lab: Lab, source: str) -> bool:
    """Whether no reverse proxy answers a guess within a quarter of a second."""
    return guesses(lab, source, range(len(lab.rps)), timeout=0.25) == [None] * len(lab.rps)


def await_witnesses(lab: Lab) -> None:
    """Return when every enforcer has looked into its kernel for long enough to say that somebody was not connected."""
    for rp in lab.rps:
        asked: list[str] = []
        wait_until(partial(_looks, lab, rp.host.name, asked), f"{rp.host.name} looks")


def patient(lab: Lab) -> Lab:
    """Its receiver waits for witnesses for half a minute, so that a busy machine is no silent witness; not started."""
    assert lab.receiver
    set_constants(lab.receiver, {"receiver.hearing._PATIENCE_S": 30})
    return lab


def _looks(lab: Lab, name: str, asked: list[str]) -> bool:
    """Ask once more about an address that nobody has, and look for a certain answer to what was asked before."""
    with lab.redis.client() as client:
        id_ = secrets.token_hex(8)
        Ledger(Store(client)).ask([("192.0.2.254", 0, id_)])
        asked.append(f"192.0.2.254 {id_}")
        return b"unseen" in client.hmget(f"{{pinban}}:witness:{name}", asked)
