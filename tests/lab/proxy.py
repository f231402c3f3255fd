"""Links with faults: TCP and UDP proxies that delay, drop, cut, freeze, garble, duplicate and reorder. No policy.

One event loop each, in a thread inside a namespace; a test sets the faults from its own thread at any time. A UDP proxy
counts what it passed, dropped and doubled, so that a test knows exactly what must arrive.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections import Counter
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from tests.lab.netns import Namespace
from tests.lab.tap import ROOM, SO_RCVBUFFORCE

Address = tuple[str, int]

#: Between two looks whether a frozen link is thawed, s.
_GLANCE_S = 0.005

#: A datagram that the next one is to overtake waits for it no longer than this, s.
_OVERTAKEN_S = 0.05


@dataclass
class Weather:
    """What a link does to the traffic. Chances are from 0 to 1, for each chunk or datagram."""

    delay_s: float = 0.0
    frozen: bool = False  #: nothing passes, nothing is lost, nothing is closed
    drop: float = 0.0
    garble: float = 0.0  #: one byte is another
    duplicate: float = 0.0  #: UDP alone
    reorder: float = 0.0  #: UDP alone: the next one overtakes it


class _Proxy:
    """The loop, its thread and its end."""

    def __init__(self, namespace: Namespace, listen: Address, to: Address, seed: int) -> None:
        self.weather = Weather()
        self._namespace = namespace
        self._listen = listen
        self._to = to
        self._dice = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._done: Future[None] | None = None

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._done = self._namespace.start(lambda: self._loop.run_until_complete(self._live(ready)))
        while not ready.wait(0.01):
            if self._done.done():
                self._done.result()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        assert self._done
        self._done.result()
        self._loop.close()

    def clear(self) -> None:
        """End all faults."""
        self.weather = Weather()

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._dice.random() < chance

    def _garbled(self, data: bytes) -> bytes:
        if not data or not self._happens(self.weather.garble):
            return data
        at = self._dice.randrange(len(data))
        return data[:at] + bytes([data[at] ^ self._dice.randrange(1, 256)]) + data[at + 1 :]

    async def _passable(self, due: float) -> None:
        await asyncio.sleep(max(due - self._loop.time(), 0))
        while self.weather.frozen:
            await asyncio.sleep(_GLANCE_S)

    async def _live(self, ready: threading.Event) -> None:
        raise NotImplementedError


class TcpProxy(_Proxy):
    """Each connection to `listen` is one to `to`."""

    def __init__(self, namespace: Namespace, listen: Address, to: Address, seed: int = 0) -> None:
        super().__init__(namespace, listen, to, seed)
        self._transports: set[asyncio.WriteTransport] = set()

    def lead_to(self, to: Address) -> None:
        """Where new connections go from now on."""
        self._to = to

    def cut(self) -> None:
        """Reset every connection; new ones are accepted."""
        self._loop.call_soon_threadsafe(self._reset_all)

    def _reset_all(self) -> None:
        for transport in set(self._transports):
            at_once = struct.pack("ii", 1, 0)  # a reset instead of an orderly end (socket(7), SO_LINGER)
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, at_once)
            transport.abort()

    async def _live(self, ready: threading.Event) -> None:
        server = await asyncio.start_server(self._serve, *self._listen)
        ready.set()
        await self._ended.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = [writer]
        with suppress(OSError):
            try:
                there_reader, there_writer = await asyncio.open_connection(*self._to)
                opened.append(there_writer)
                self._transports |= {each.transport for each in opened}
                await asyncio.gather(self._pump(reader, there_writer), self._pump(there_reader, writer))
            finally:
                for each in opened:
                    self._transports.discard(each.transport)
                    each.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._take_in(reader, waiting))
            both.create_task(self._let_out(waiting, writer))

    async def _take_in(self, reader: asyncio.StreamReader, waiting: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Acknowledge at once, as the kernel of a frozen program does."""
        data = b"-"
        while data:
            try:
                data = await reader.read(65_536)
            except OSError:
                data = b""
            waiting.put_nowait((self._loop.time() + self.weather.delay_s, data))

    async def _let_out(self, waiting: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
        while True:
            due, data = await waiting.get()
            await self._passable(due)
            if not data:
                writer.transport.abort()
                return
            if not self._happens(self.weather.drop) and not writer.transport.is_closing():
                writer.write(self._garbled(data))


class UdpProxy(_Proxy):
    """Datagrams to `listen` go on to `to`, from an address of the proxy's namespace; nothing comes back.

    `tally`: taken, dropped, doubled, passed; passed == taken - dropped + doubled once nothing is under way.
    """

    def __init__(self, namespace: Namespace, listen: Address, to: Address, seed: int = 0) -> None:
        super().__init__(namespace, listen, to, seed)
        self.tally: Counter[str] = Counter()
        self.socket = namespace.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        self._under_way: set[asyncio.Task[None]] = set()
        self._overtaken: list[bytes] = []

    async def _live(self, ready: threading.Event) -> None:
        with self.socket:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
            self.socket.setblocking(False)
            self.socket.bind(self._listen)
            self._loop.add_reader(self.socket, self._take)
            ready.set()
            await self._ended.wait()
            self._loop.remove_reader(self.socket)
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    def _take(self) -> None:
        with suppress(BlockingIOError):
            while True:
                data = self.socket.recv(65_536)
                self.tally["taken"] += 1
                if self._happens(self.weather.drop):
                    self.tally["dropped"] += 1
                elif self._happens(self.weather.reorder):
                    self._overtaken.append(data)
                    self._loop.call_later(_OVERTAKEN_S, self._let_overtaken_go)
                else:
                    self._send(data)
                    self._let_overtaken_go()

    def _let_overtaken_go(self) -> None:
        while self._overtaken:
            self._send(self._overtaken.pop())

    def _send(self, data: bytes) -> None:
        copies = 2 if self._happens(self.weather.duplicate) else 1
        self.tally["doubled"] += copies - 1
        for _ in range(copies):
            if self.weather.delay_s or self.weather.frozen or self._under_way:
                task = self._loop.create_task(self._send_later(data, self._loop.time() + self.weather.delay_s))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
            else:
                self._pass(data)

    async def _send_later(self, data: bytes, due: float) -> None:
        await self._passable(due)
        self._pass(data)

    def _pass(self, data: bytes) -> None:
        self.socket.sendto(self._garbled(data), self._to)  # not connected: no earlier error can lose this one
        self.tally["passed"] += 1
