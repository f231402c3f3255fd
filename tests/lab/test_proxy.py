"""The instrument itself: each fault of the proxies is a fault, and what they count is true."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise

import pytest

from tests.lab.netns import Namespace, unique_prefix
from tests.lab.process import PATIENCE_S, wait_until
from tests.lab.proxy import TcpProxy, UdpProxy, Weather
from tests.lab.tap import ROOM, SO_RCVBUFFORCE

LISTEN, TO = ("127.0.0.1", 7001), ("127.0.0.1", 7002)


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    host = Namespace(f"{unique_prefix()}-host")
    host.create()
    yield host
    host.remove()


@pytest.fixture
def echo(host: Namespace) -> Iterator[TcpProxy]:
    """A proxy in front of a server that says everything again."""
    server = host.call(lambda: socket.create_server(TO))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=repeat, args=(connection,), daemon=True).start()

    accepting = host.start(serve)
    with TcpProxy(host, LISTEN, TO, seed=1) as proxy:
        yield proxy
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    accepting.result(PATIENCE_S)


def repeat(connection: socket.socket) -> None:
    with connection, suppress(ConnectionError):
        while data := connection.recv(4096):
            connection.sendall(data)


@pytest.fixture
def client(host: Namespace, echo: TcpProxy) -> Iterator[socket.socket]:
    with host.call(lambda: socket.create_connection(LISTEN, timeout=PATIENCE_S)) as client:
        client.sendall(b"hello")
        assert client.recv(99) == b"hello"
        yield client


def asked(client: socket.socket, timeout: float) -> bytes | None:
    """The answer; None when none comes in time."""
    client.settimeout(timeout)
    client.sendall(b"ask")
    try:
        return client.recv(99)
    except TimeoutError:
        return None


def test_tcp_is_delayed_both_ways(echo: TcpProxy, client: socket.socket) -> None:
    echo.weather = Weather(delay_s=0.1)
    began = time.monotonic()
    assert asked(client, PATIENCE_S) == b"ask"
    assert time.monotonic() - began >= 0.2


def test_tcp_freezes_and_thaws(echo: TcpProxy, client: socket.socket) -> None:
    echo.weather = Weather(frozen=True)
    assert asked(client, 0.2) is None
    echo.clear()
    client.settimeout(PATIENCE_S)
    assert client.recv(99) == b"ask"


def test_tcp_is_swallowed_and_garbled(echo: TcpProxy, client: socket.socket) -> None:
    echo.weather = Weather(drop=1)
    assert asked(client, 0.2) is None
    echo.weather = Weather(garble=1)
    answer = asked(client, PATIENCE_S)
    assert answer is not None
    assert answer != b"ask"
    assert len(answer) == 3


def test_tcp_is_cut_and_can_be_made_again(host: Namespace, echo: TcpProxy, client: socket.socket) -> None:
    echo.cut()
    client.settimeout(PATIENCE_S)
    with pytest.raises(ConnectionResetError):
        client.recv(99)
    with host.call(lambda: socket.create_connection(LISTEN, timeout=PATIENCE_S)) as again:
        assert asked(again, PATIENCE_S) == b"ask"


@pytest.fixture
def wire(host: Namespace) -> Iterator[tuple[UdpProxy, socket.socket, socket.socket]]:
    """A proxy, what sends to it, and what it passes datagrams on to."""
    receiver = host.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sender = host.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOM)
    receiver.bind(TO)
    receiver.settimeout(PATIENCE_S)
    sender.connect(LISTEN)
    with receiver, sender, UdpProxy(host, LISTEN, TO, seed=1) as proxy:
        yield proxy, sender, receiver


def test_udp_is_dropped_doubled_reordered_and_counted(wire: tuple[UdpProxy, socket.socket, socket.socket]) -> None:
    proxy, sender, receiver = wire
    proxy.weather = Weather(drop=0.1, duplicate=0.1, reorder=0.1)
    for n in range(1_000):
        sender.send(b"%d" % n)
        if n % 50 == 49:
            wait_until(lambda: proxy.tally["taken"] == n + 1, "all are taken")  # noqa: B023
    tally = proxy.tally
    wait_until(lambda: tally["passed"] == 1_000 - tally["dropped"] + tally["doubled"], "all are passed")
    came = [int(receiver.recv(99)) for _ in range(tally["passed"])]
    assert 60 < tally["dropped"] < 140
    assert 60 < tally["doubled"] < 140
    assert len(set(came)) == 1_000 - tally["dropped"]
    assert sum(1 for one, next_ in pairwise(came) if next_ < one) > 40


def test_udp_is_delayed_frozen_and_garbled(wire: tuple[UdpProxy, socket.socket, socket.socket]) -> None:
    proxy, sender, receiver = wire
    proxy.weather = Weather(delay_s=0.1)
    began = time.monotonic()
    sender.send(b"late")
    assert receiver.recv(99) == b"late"
    assert time.monotonic() - began >= 0.1
    proxy.weather = Weather(frozen=True)
    sender.send(b"held")
    receiver.settimeout(0.2)
    with pytest.raises(TimeoutError):
        receiver.recv(99)
    proxy.weather = Weather(garble=1)
    receiver.settimeout(PATIENCE_S)
    assert receiver.recv(99) != b"held"
