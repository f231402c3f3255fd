"""Wrong PINs go first and are displaced by nothing less: a flood of prompts hides no guess, in a real Redis."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
import redis

from receiver.spool.slots import Slot, Spool
from shared.settings.schema import Settings
from tests.lab.process import PATIENCE_S, wait_until
from tests.lab.redis_server import RedisServer
from tests.parts import parts_of

#: More prompts than all queues of a slot hold together, and a wrong PIN of some guesser after so many of them.
PROMPTS, EVERY, GUESSERS = 40_000, 200, 40


def line(address: str, id_: int, *, pin: bool) -> bytes:
    fields: dict[str, Any] = {
        "v": 1,
        "id": f"{id_:032x}",
        "ip": address,
        "m": "POST",
        "k": "conference",
        "a": address,
    }
    return msgspec.json.encode(fields | {"s": "403", "us": "403", "l": "45" if pin else "73", "p": "1" if pin else "0"})


def flood() -> Iterator[bytes]:
    """Prompts from many /64s of one /48, 20 of each so that none is at its limit, and wrong PINs between them."""
    for n in range(PROMPTS):
        yield line(f"2001:db8:1:{n % 2_000 + 1:x}::7", n, pin=False)
        if n % EVERY == EVERY - 1:
            guess = n // EVERY
            yield line(f"203.0.113.{guess % GUESSERS + 1}", PROMPTS + guess, pin=True)


def take_in(settings: Settings, spool: Spool, slot: Slot) -> int:
    """Send all of the flood through a socket, and have it sorted into the slot; returns how many datagrams."""
    sorter, sent = parts_of(settings, spool).sorter, 0
    outlet, inlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with outlet, inlet:
        outlet.setblocking(False)
        for datagram in flood():
            try:
                outlet.send(datagram)
            except BlockingIOError:
                while slot.receive(inlet):
                    sorter.sort(slot)
                outlet.send(datagram)
            sent += 1
        while slot.receive(inlet):
            sorter.sort(slot)
    return sent


@dataclass
class Seen:
    """What a Redis was asked to count, in its order: rule and network."""

    counts: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def watched(client: redis.Redis) -> Iterator[Seen]:
    """MONITOR tells each count by the key of its window."""
    key, seen, done = re.compile(r"pinban:window:\{(\S+)\}:(\w+)"), Seen(), threading.Event()

    def listen() -> None:
        with client.monitor() as monitor:  # type: ignore[no-untyped-call]
            ready.set()
            while True:
                command = monitor.next_command()["command"]
                if "the end of the test" in command:
                    done.set()
                    return
                if command.startswith("EVALSHA") and (found := key.search(command)):
                    seen.counts.append((found[2], found[1]))

    ready = threading.Event()
    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield seen
    finally:
        client.echo("the end of the test")
        assert done.wait(PATIENCE_S)


@pytest.mark.row(4)
def test_a_flood_of_prompts_displaces_no_wrong_pin_and_none_waits_for_them(
    settings: Settings, server: RedisServer
) -> None:
    """All of it came while Redis was away: 40,200 failures, more than a slot holds."""
    spool = Spool(1)
    slot = spool.slots[0]
    server.kill()
    sent = take_in(settings, spool, slot)
    assert (sent, spool.totals()["failures"]) == (PROMPTS + PROMPTS // EVERY,) * 2
    server.start()
    server.await_ready()
    with server.client() as client, watched(client) as seen:
        counter = parts_of(settings, spool).counter
        counter.adopt(slot, own=True)
        counter.start()
        wait_until(lambda: spool.totals()["queued"] == 0, "all are counted")
        counter.finish(within_s=PATIENCE_S)
    totals = spool.totals()
    assert totals["queue_dropped"] > 0
    assert totals["queue_dropped"] + totals["counted"] + totals["expired"] == sent
    assert totals["bans"] == GUESSERS, "each made five guesses"
    rules = [rule for rule, _ in seen.counts]
    assert "prompt" not in rules[: rules.index("pin") + rules.count("pin")], "wrong PINs first"
