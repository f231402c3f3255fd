"""Datagrams as nginx writes them, sent from a reverse proxy at a steady pace; no nginx, no policy."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from tests.lab.netns import Namespace
from tests.lab.wires import CORE

#: Where the lab's receiver listens.
RECEIVER = (CORE, 5514)


def failure(address: str, id_: str, alias: str = "") -> bytes:
    """The line of a wrong PIN. Each address has its own room: a room that many attack would become hot."""
    fields = {"v": 1, "id": id_, "t": "1795356738.348", "ip": address, "m": "POST", "k": "conference"}
    fields |= {"a": alias or f"room.{address}", "s": "403", "us": "403", "l": "45", "p": "1"}
    return b"<190>Nov 22 14:12:18 pinban: " + json.dumps(fields, separators=(",", ":")).encode()


def unread(namespace: Namespace) -> int:
    """What lies in the receiver's sockets, bytes (proc(5), /proc/net/udp: rx_queue)."""
    table = namespace.call(Path("/proc/thread-self/net/udp").read_text)
    rows = [line.split() for line in table.splitlines()[1:]]
    return sum(int(row[4].split(":")[1], 16) for row in rows if row[1].endswith(f":{RECEIVER[1]:04X}"))


class Sender:
    """A UDP socket of a namespace that sends to the receiver."""

    def __init__(self, namespace: Namespace, to: tuple[str, int] = RECEIVER, *, source: str = "") -> None:
        self._socket = namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        if source:
            self._socket.bind((source, 0))
        self._socket.connect(to)

    def __enter__(self) -> Sender:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.send(data)

    def pour(self, datagrams: Iterable[bytes], per_ms: int) -> int:
        """Send all of them, so many each millisecond; returns how many. When late, it catches up 20 ms at most."""
        began, due = time.monotonic(), 0
        for number, data in enumerate(datagrams, 1):
            self._socket.send(data)
            due = number
            if number % per_ms == 0:
                ahead_s = number / per_ms / 1_000 - (time.monotonic() - began)
                if ahead_s > 0:
                    time.sleep(ahead_s)
                elif ahead_s < -0.02:
                    began -= ahead_s + 0.02
        return due
