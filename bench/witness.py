"""What it costs an enforcer to hear of every connection that closes: the witness's listener and memory on real sockets.

`make bench-witness`; exits with 1 above the limit: 10,000 closings a second must not take a sixth of a core. It uses
the loopback, and needs root.
"""

from __future__ import annotations

import os
import socket
import statistics
import struct
import sys
import threading
import time

from enforcer.witness.peers import Peers
from enforcer.witness.sockets import Sockets
from tests.lab.machine import machine

ROUNDS, CLOSINGS = 7, 5_000

#: Processor time for a closing, µs.
LIMIT_US = 16.0

#: Closings are read together this often, as in enforcer/witness/witness.py, s.
PAUSE_S = 0.1


def client(server: socket.socket) -> None:
    """Open and reset connections, each from another address; a process of its own."""
    port = server.getsockname()[1]
    for n in range(CLOSINGS):
        source = (f"127.1.{n >> 8 & 255}.{n & 255}", 0)
        with socket.create_connection(("127.0.0.1", port), source_address=source) as connection:
            accepted, _ = server.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        accepted.close()


def cost_us(server: socket.socket) -> float:
    """Processor time of the listening thread for each closing, µs."""
    looking, peers, done = Sockets([server.getsockname()[1]]), Peers(0), threading.Event()
    spent: list[float] = []

    def listen() -> None:
        begun = time.thread_time()
        while not done.wait(PAUSE_S):
            now_ms = time.monotonic_ns() // 1_000_000
            closed = looking.closed()
            if closed.lost:
                raise SystemExit("the kernel lost messages: this host is too slow for the bench")
            peers.note(closed.clients, now_ms)
            peers.forget_old(now_ms)
        spent.append(time.thread_time() - begun)

    thread = threading.Thread(target=listen)
    thread.start()
    if not (child := os.fork()):
        client(server)
        os._exit(0)
    os.waitpid(child, 0)
    time.sleep(3 * PAUSE_S)
    done.set()
    thread.join()
    looking.close()
    if len(peers) < CLOSINGS:
        raise SystemExit(f"heard of {len(peers)} closings, not of {CLOSINGS}")
    return spent[0] / CLOSINGS * 1e6


def main() -> int:
    """Measure and print; 1 above the limit."""
    print(machine())
    print(f"method    {ROUNDS} rounds of {CLOSINGS:,} connections that are reset; processor time of the listener\n")
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        figures = [cost_us(server) for _ in range(ROUNDS)]
    median = statistics.median(figures)
    spread = f"min {min(figures):.1f}   max {max(figures):.1f}"
    print(f"a closing   median {median:.1f} µs   {spread}   limit {LIMIT_US:.0f} µs")
    return 0 if median <= LIMIT_US else 1


if __name__ == "__main__":
    sys.exit(main())
