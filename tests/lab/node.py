"""A stand-in for a Pexip conference node: answers token requests as one does, and counts its answers.

python -m tests.lab.node --listen 10.77.0.1:8080 --pin meet.alice=1234 --sso meet.sso=4711 --delay-ms 5

The counts are the truth that others are compared with: printed at SIGUSR1 and served as GET /_truth. With --records
every request is a line of JSON in a file, written when the node has decided and before it answers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from tests.lab.node_answers import Reply, Request, Room, Rooms, answer, route

HEAD_END = b"\r\n\r\n"

REASONS = {200: b"OK", 401: b"Unauthorized", 403: b"Forbidden", 404: b"Not Found"}


OUTCOMES = ("prompt", "wrong", "redirected", "full", "joined", "unknown", "registration", "other", "abandoned")


@dataclass(frozen=True, slots=True)
class Manner:
    """How a node writes what it answers."""

    delay_s: float = 0.0  #: before an answer to request_token
    chunked: bool = False  #: without Content-Length to HTTP/1.1
    gzip: bool = False  #: compressed for whoever takes it
    compact: bool = False  #: JSON without spaces

    def write(self, request: Request, reply: Reply) -> Reply:
        written = reply.without_spaces() if self.compact else reply
        return written.in_gzip() if self.gzip and request.takes_gzip else written


class Node:
    """What all connections share. A reply counts when it is written to a connection that is still open."""

    def __init__(self, rooms: Rooms, manner: Manner, records: TextIO | None = None) -> None:
        """A file of records must be line-buffered: a record must be in it before its answer is sent."""
        self.rooms = rooms
        self.manner = manner
        self._records = records
        self.truth = dict.fromkeys(OUTCOMES, 0)

    def reply_to(self, request: Request) -> Reply:
        if request.target == b"/_truth":
            return Reply("", 200, json.dumps(self.truth).encode())
        reply = self.manner.write(request, answer(request, self.rooms))
        if self._records:
            self._records.write(json.dumps(record(request, reply)) + "\n")
        return reply


def record(request: Request, reply: Reply) -> dict[str, str | int | bool | list[str]]:
    """What the node saw and decided. Bytes are written as Latin-1, which keeps all of them."""
    return {
        "id": request.id.decode("latin-1"),
        "marker": request.marker.decode("latin-1"),
        "method": request.method.decode("latin-1"),
        "target": request.target.decode("latin-1"),
        "alias": route(request.target)[1].decode("latin-1"),
        "pins": [pin.decode("latin-1") for pin in request.pins],
        "outcome": reply.outcome,
        "status": reply.status,
        "login": request.login,
        "sites": [site.decode("latin-1") for site in request.sites],
        "origins": [origin.decode("latin-1") for origin in request.origins],
        "compressed": reply.compressed,
    }


class Connection(asyncio.Protocol):
    """One request at a time, in order; a delayed reply holds up this connection alone."""

    _transport: asyncio.Transport

    def __init__(self, node: Node) -> None:
        self._node = node
        self._buffer = b""
        self._busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._take()

    def _take(self) -> None:
        while not self._busy and (end := self._buffer.find(HEAD_END)) >= 0:
            try:
                request = Request.parse(self._buffer[:end])
            except ValueError:
                self._transport.close()
                return
            after = end + len(HEAD_END) + request.body_length
            if len(self._buffer) < after:
                return
            self._buffer = self._buffer[after:]
            reply = self._node.reply_to(request)
            if reply.delayed and self._node.manner.delay_s:
                self._busy = True
                asyncio.get_running_loop().call_later(self._node.manner.delay_s, self._finish, request, reply)
            else:
                self._send(request, reply)

    def _finish(self, request: Request, reply: Reply) -> None:
        self._busy = False
        self._send(request, reply)
        self._take()

    def _send(self, request: Request, reply: Reply) -> None:
        if self._transport.is_closing():
            self._node.truth["abandoned"] += 1
            return
        if reply.outcome:
            self._node.truth[reply.outcome] += 1
        close = not request.keep_alive
        head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\n" % (reply.status, REASONS[reply.status])
        if reply.compressed:
            head += b"Content-Encoding: gzip\r\n"
        if self._node.manner.chunked and request.http11:
            head += b"Transfer-Encoding: chunked\r\n"
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(reply.body), reply.body)
        else:
            head += b"Content-Length: %d\r\n" % len(reply.body)
            body = reply.body
        self._transport.write(head + (b"Connection: close\r\n\r\n" if close else b"\r\n") + body)
        if close:
            self._transport.close()


async def serve(address: str, port: int, node: Node) -> None:
    """Answer until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    loop.add_signal_handler(signal.SIGUSR1, lambda: print(json.dumps(node.truth), flush=True))
    server = await loop.create_server(partial(Connection, node), address, port, backlog=1024)
    await stopped.wait()
    server.close()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tests.lab.node")
    parser.add_argument("--listen", default="127.0.0.1:8080", metavar="ADDRESS:PORT")
    for kind, said in (("pin", "a room"), ("sso", "one with single sign-on"), ("full", "one that is full")):
        parser.add_argument(f"--{kind}", action="append", default=[], metavar="ALIAS=PIN", help=f"{said}; repeatable")
    parser.add_argument("--delay-ms", type=float, default=0.0, help="before an answer to request_token")
    parser.add_argument("--chunked", action="store_true", help="no Content-Length for HTTP/1.1")
    parser.add_argument("--gzip", action="store_true", help="compress for whoever takes it")
    parser.add_argument("--compact", action="store_true", help="JSON without spaces")
    parser.add_argument("--records", type=Path, metavar="FILE", help="one line of JSON for each request")
    options = parser.parse_args(argv)
    address, _, port = options.listen.rpartition(":")
    manner = Manner(options.delay_ms / 1000, options.chunked, options.gzip, options.compact)
    with ExitStack() as stack:
        records = stack.enter_context(options.records.open("a", buffering=1)) if options.records else None
        asyncio.run(serve(address, int(port), Node(_rooms(options), manner, records)))


def _rooms(options: argparse.Namespace) -> Rooms:
    rooms: dict[str, Room] = {}
    for entries, sso, full in ((options.pin, False, False), (options.sso, True, False), (options.full, False, True)):
        for alias, _, pin in (entry.rpartition("=") for entry in entries):
            rooms[alias.lower()] = Room(pin.encode(), sso, full)
    return rooms


if __name__ == "__main__":
    main()
