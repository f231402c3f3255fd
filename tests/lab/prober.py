"""Opens connections to the reverse proxies all the time and notes every answer: proof that none was let through."""

from __future__ import annotations

import errno
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

#: Between two attempts at each reverse proxy, s.
PAUSE_S = 0.005

#: How long it waits for an answer, s.
LISTEN_S = 0.5


@dataclass(slots=True)
class Knocks:
    sent: int = 0
    answers: list[str] = field(default_factory=list)  #: the reverse proxy of each answer


class Prober:
    """Opens connections from one source address until stop(). Use once."""

    def __init__(self, addresses: Sequence[str], source: str) -> None:
        self._addresses = addresses
        self._source = source
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End run() when the wait for the last answer is over; from any thread."""
        self._stopped.set()

    def run(self) -> Knocks:
        """Open connections; in a thread of the source's namespace. A SYN-ACK and a reset are both answers."""
        knocks = Knocks()
        waiting: deque[tuple[float, str, socket.socket]] = deque()
        poll = select.epoll()
        try:
            while not self._stopped.wait(PAUSE_S):
                waiting.extend(self._knock(address, poll) for address in self._addresses)
                knocks.sent += len(self._addresses)
                self._listen(poll, waiting, knocks)
                while waiting and waiting[0][0] < time.monotonic() - LISTEN_S:
                    waiting.popleft()[2].close()
            time.sleep(LISTEN_S)
            self._listen(poll, waiting, knocks)
        finally:
            poll.close()
            for _, _, knock in waiting:
                knock.close()
        return knocks

    def _knock(self, address: str, poll: select.epoll) -> tuple[float, str, socket.socket]:
        knock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        knock.setblocking(False)
        knock.bind((self._source, 0))
        begun = knock.connect_ex((address, 80))
        if begun != errno.EINPROGRESS:
            raise OSError(begun, "connect")
        poll.register(knock, select.EPOLLOUT | select.EPOLLONESHOT)
        return time.monotonic(), address, knock

    def _listen(self, poll: select.epoll, waiting: Sequence[tuple[float, str, socket.socket]], knocks: Knocks) -> None:
        answered = {number for number, _ in poll.poll(0)}
        knocks.answers += [address for _, address, knock in waiting if knock.fileno() in answered]
