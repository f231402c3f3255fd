"""As much HTTP/1.1 as a client of the lab needs: one request out, one answer in, on a socket that stays open."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

Header = tuple[str, str]

HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes  #: as sent, chunk framing included
    closing: bool  #: the server will close this connection
    seconds: float = 0.0


def encode(method: str, target: str, address: str, headers: Sequence[Header] = ()) -> bytes:
    """A request without a body; headers in the given order, repeats included."""
    host = f"[{address}]" if ":" in address else address
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *(f"{name}: {value}" for name, value in headers)]
    if method == "POST":
        lines.append("Content-Length: 0")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def decode(buffer: bytes) -> tuple[Answer, bytes] | None:
    """The first answer in the buffer and the bytes after it; None while it is incomplete."""
    head_end = buffer.find(HEAD_END)
    if head_end < 0:
        return None
    head = buffer[:head_end].lower()
    start = head_end + len(HEAD_END)
    if b"\r\ntransfer-encoding: chunked" in head:
        end = buffer.find(LAST_CHUNK, start) + len(LAST_CHUNK)
        if end < start:
            return None
    else:
        _, found, rest = head.partition(b"\r\ncontent-length:")
        end = start + (int(rest.split(b"\r\n", 1)[0]) if found else 0)
        if len(buffer) < end:
            return None
    answer = Answer(int(head[9:12]), buffer[start:end], b"\r\nconnection: close" in head)
    return answer, buffer[end:]


class Connection:
    """One TCP connection. Must be made in a thread inside the client's namespace; may then be used from any."""

    def __init__(self, address: str, port: int = 80, *, source: str = "", timeout: float = 10.0) -> None:
        """OSError if nobody answers within the timeout, in seconds; it also holds for every later answer."""
        self._address = address
        self._buffer = b""
        self._socket = socket.create_connection((address, port), timeout, (source, 0) if source else None)

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def ask(self, method: str, target: str, headers: Sequence[Header] = ()) -> Answer | None:
        """Send one request and wait for its answer; None if none came: timeout, reset, closed."""
        begun = time.monotonic()
        try:
            self._socket.sendall(encode(method, target, self._address, headers))
            while (found := decode(self._buffer)) is None:
                data = self._socket.recv(65536)
                if not data:
                    return None
                self._buffer += data
        except OSError:
            return None
        answer, self._buffer = found
        return Answer(answer.status, answer.body, answer.closing, time.monotonic() - begun)

    def ask_and_leave(self, method: str, target: str, headers: Sequence[Header] = ()) -> None:
        """Send one request and hang up without waiting for the answer."""
        self._socket.sendall(encode(method, target, self._address, headers))
        self.close()
