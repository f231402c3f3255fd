"""What a client will send: values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tests.ground_truth.fronts import Front

#: The header that carries a request's number to the node and to the key line; the pinban line does not have it.
MARKER = b"X-Ground"

Leaving = Literal["", "close", "reset"]  #: how a client hangs up without waiting for its answer

Pairs = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request. HTTP/1 has raw bytes, HTTP/2 a list of header fields and a body."""

    marker: int
    raw: bytes
    fields: Pairs = ()
    body: bytes = b""
    leaving: Leaving = ""
    unfinished: bool = False  #: HTTP/2: it is reset before its end, so that no node is asked
    bodiless: bool = False  #: the answer has a head only

    def __str__(self) -> str:
        hung_up = f", then hang up: {self.leaving}" if self.leaving else ""
        hung_up += " before its end" if self.unfinished else ""
        return (f"HTTP/2 {self.fields!r} {self.body!r}" if self.fields else repr(self.raw)) + hung_up


@dataclass(frozen=True, slots=True)
class Session:
    """Requests of one client, on one connection as long as nginx keeps it open."""

    front: Front  #: which of nginx's servers is asked
    source: str  #: where the connection comes from
    client: str  #: who asks: the source, or somebody behind the balancer
    http2: bool
    at_once: bool  #: all sent before the first answer is read
    requests: tuple[Request, ...]
