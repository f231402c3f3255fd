"""Requests to the receiver's HTTP side that never end, held against it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.lab.daemons import HTTP
from tests.lab.lab import Lab

HALF_OPEN = 400

#: Nothing, a line without its end, an endless header, a body that does not come.
_BEGINNINGS = (b"", b"GET /healthz HTT", b"GET / HTTP/1.1\r\nX: ", b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n")


@contextmanager
def half_open(lab: Lab) -> Iterator[None]:
    """So many of them inside the block, from the receiver's own host."""
    with ExitStack() as stack:
        for slow in lab.core.namespace.call(lambda: [_begin(n) for n in range(HALF_OPEN)]):
            stack.enter_context(slow)
        yield


def _begin(which: int) -> socket.socket:
    slow = socket.create_connection(HTTP, timeout=10.0)
    slow.sendall(_BEGINNINGS[which % len(_BEGINNINGS)])
    return slow
