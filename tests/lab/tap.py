"""A socket where the receiver would be: what nginx really sends, datagram by datagram."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.lab.netns import Namespace

#: Enough for all that is sent before a test reads, bytes; more than rmem_max needs CAP_NET_ADMIN (socket(7)).
ROOM = 64 << 20
SO_RCVBUFFORCE = 33

#: RFC 3164 as nginx writes it with nohostname and tag=pinban.
DATAGRAM = re.compile(rb"<190>[A-Z][a-z]{2} [ 1-3][0-9] [0-9:]{8} pinban: (\{.*\})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Datagram:
    raw: bytes
    sender: str  #: "" on a unix socket
    fields: dict[str, str | int]


class Tap:
    """Listens on UDP inside a namespace, or on a unix socket, which needs none."""

    def __init__(self, at: tuple[str, int] | Path, namespace: Namespace | None = None) -> None:
        create = partial(socket.socket, socket.AF_UNIX if isinstance(at, Path) else socket.AF_INET, socket.SOCK_DGRAM)
        self._socket = namespace.call(create) if namespace else create()
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
        self._socket.bind(str(at) if isinstance(at, Path) else at)

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def next(self, timeout: float = 5.0) -> Datagram:
        """The next datagram; TimeoutError after that many seconds, ValueError if it breaks the contract."""
        raw, sender = self._take(timeout)
        found = DATAGRAM.fullmatch(raw)
        if not found:
            raise ValueError(f"not a datagram of ours: {raw!r}")
        return Datagram(raw, sender[0] if sender else "", json.loads(found[1]))

    def raw(self, timeout: float = 5.0) -> bytes:
        """The next datagram as it came, in any format; TimeoutError after that many seconds."""
        return self._take(timeout)[0]

    def _take(self, timeout: float) -> tuple[bytes, tuple[str, int] | None]:
        self._socket.settimeout(timeout)
        raw, sender = self._socket.recvfrom(65536)
        return raw, sender or None
