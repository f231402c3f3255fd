"""Sends sessions over real connections. It reads answers only to know when to go on."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable, Sequence

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, StreamEnded, StreamReset
from h2.exceptions import ProtocolError

from tests.ground_truth.requests import Leaving, Request, Session
from tests.lab.http1 import HEAD_END, decode

#: For connecting and for each answer, s. A request that nginx takes for incomplete gets no answer.
PATIENCE_S = 1.0

#: Any malformed field may be sent, in any spelling.
_FREELY = H2Configuration(
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
)


def play(sessions: Iterable[Session]) -> None:
    """Send them, one after the other; in a thread of the site's namespace."""
    for session in sessions:
        line = (
            _Http2(session.source, session.front.http2)
            if session.http2
            else _Http1(session.source, session.front.http1)
        )
        step = len(session.requests) if session.at_once else 1
        with line as connection:
            for start in range(0, len(session.requests), step):
                connection.ask(session.requests[start : start + step])


class _Line:
    """A connection, opened again whenever it was lost."""

    def __init__(self, source: str, port: int) -> None:
        self._source = source
        self._port = port
        self._socket: socket.socket | None = None

    def __enter__(self) -> _Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self, how: Leaving = "close") -> None:
        """Hang up, or have the kernel send a reset."""
        if self._socket:
            if how == "reset":
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._socket.close()
            self._socket = None

    def ask(self, requests: Sequence[Request]) -> None:
        """Send all at once; wait for the answers unless a request is to be abandoned."""
        try:
            if self._socket is None:
                self._open()
            if not self._exchange(requests):
                self.leave()
        except (OSError, ValueError):  # the site closed it, does not answer, or answers HTTP/0.9, which has no head
            self.leave()

    def connect(self) -> socket.socket:
        target = "::1" if ":" in self._source else "127.0.0.1"
        self._socket = socket.create_connection((target, self._port), PATIENCE_S, (self._source, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._socket

    def _open(self) -> None:
        raise NotImplementedError

    def _exchange(self, requests: Sequence[Request]) -> bool:
        """Whether the connection can be used again."""
        raise NotImplementedError


class _Http1(_Line):
    def _open(self) -> None:
        self.connect()
        self._buffer = b""

    def _exchange(self, requests: Sequence[Request]) -> bool:
        assert self._socket
        self._socket.sendall(b"".join(request.raw for request in requests))
        if requests[-1].leaving:
            self.leave(requests[-1].leaving)
            return False
        return all(self._answered(request) for request in requests)

    def _answered(self, request: Request) -> bool:
        """Read one answer; whether the connection stays open after it."""
        assert self._socket
        while True:
            end = self._buffer.find(HEAD_END)
            if request.bodiless and end >= 0:
                closing = b"\r\nconnection: close" in self._buffer[:end].lower()
                self._buffer = self._buffer[end + len(HEAD_END) :]
                return not closing
            if found := decode(self._buffer):
                answer, self._buffer = found
                if answer.status >= 200:
                    return not answer.closing
            elif data := self._socket.recv(65536):
                self._buffer += data
            else:
                return False


class _Http2(_Line):
    def _open(self) -> None:
        opened = self.connect()
        self._state = H2Connection(_FREELY)
        self._state.initiate_connection()
        opened.sendall(self._state.data_to_send())

    def _exchange(self, requests: Sequence[Request]) -> bool:
        assert self._socket
        try:
            waiting = {stream for request in requests if (stream := self._send(request))}
            self._socket.sendall(self._state.data_to_send())
            while waiting:
                for event in self._state.receive_data(self._socket.recv(65536)) if waiting else ():
                    match event:
                        case StreamEnded(stream_id=stream) | StreamReset(stream_id=stream):
                            waiting.discard(stream or 0)
                        case ConnectionTerminated():
                            return False
                self._socket.sendall(self._state.data_to_send())
        except ProtocolError:
            return False
        return True

    def _send(self, request: Request) -> int:
        """The stream whose answer is to be waited for, or 0."""
        stream = self._state.get_next_available_stream_id()
        self._state.send_headers(stream, request.fields, end_stream=not request.body and not request.unfinished)
        if request.body:
            self._state.send_data(stream, request.body, end_stream=not request.unfinished)
        if request.leaving:
            self._state.reset_stream(stream)
            return 0
        return stream
