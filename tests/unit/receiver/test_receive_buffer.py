"""Datagrams of real sockets, taken many at a time into memory that outlives the taker."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.spool.receive_buffer import BATCH, DATAGRAM_BYTES, ReceiveBuffer, sender_address

#: The most that UDP over IPv4 carries, bytes.
LONGEST_UDP = 65_507


@pytest.fixture
def buffer() -> ReceiveBuffer:
    return ReceiveBuffer(memoryview(bytearray(ReceiveBuffer.SIZE)))


@pytest.fixture(params=["udp4", "udp6", "unix"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A receiving socket and one that sends to it."""
    addresses: dict[str, tuple[socket.AddressFamily, tuple[str, int] | str]] = {
        "udp4": (socket.AF_INET, ("127.0.0.1", 0)),
        "udp6": (socket.AF_INET6, ("::1", 0)),
        "unix": (socket.AF_UNIX, str(tmp_path / "in.sock")),
    }
    family, address = addresses[request.param]
    with socket.socket(family, socket.SOCK_DGRAM) as inlet, socket.socket(family, socket.SOCK_DGRAM) as outlet:
        inlet.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        outlet.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        inlet.bind(address)
        outlet.connect(inlet.getsockname())
        yield inlet, outlet


def taken(buffer: ReceiveBuffer, inlet: socket.socket, batch: int = 0) -> list[bytes | None]:
    count = buffer.receive(inlet, batch)
    data = [data for _, _, data in buffer.pending(batch)]
    assert len(data) == count
    return data


def test_datagrams_come_whole_in_order_and_with_their_sender(
    buffer: ReceiveBuffer, pair: tuple[socket.socket, socket.socket]
) -> None:
    inlet, outlet = pair
    sent = [b"one", b"", b"three" * 200, b"\0\xff"]
    for each in sent:
        outlet.send(each)
    assert buffer.receive(inlet, 0) == len(sent)
    rows = list(buffer.pending(0))
    assert [(index, data) for index, _, data in rows] == list(enumerate(sent))
    expected = None if inlet.family == socket.AF_UNIX else outlet.getsockname()[0]
    assert {sender_address(name) for _, name, _ in rows} == {expected}


def test_a_socket_without_datagrams_gives_an_empty_batch(
    buffer: ReceiveBuffer, pair: tuple[socket.socket, socket.socket]
) -> None:
    assert taken(buffer, pair[0]) == []


@pytest.mark.row(14)
def test_an_empty_datagram_is_one(buffer: ReceiveBuffer, pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].send(b"")
    assert taken(buffer, pair[0]) == [b""]


def test_the_longest_udp_datagram_comes_whole(buffer: ReceiveBuffer, pair: tuple[socket.socket, socket.socket]) -> None:
    longest = bytes(range(256)) * 256
    pair[1].send(longest[:LONGEST_UDP])
    assert taken(buffer, pair[0]) == [longest[:LONGEST_UDP]]


def test_a_batch_of_one_number_is_not_taken_for_another(
    buffer: ReceiveBuffer, pair: tuple[socket.socket, socket.socket]
) -> None:
    pair[1].send(b"x")
    buffer.receive(pair[0], 7)
    assert [list(buffer.pending(batch)) for batch in (6, 8)] == [[], []]
    assert len(list(buffer.pending(7))) == 1


def test_nothing_of_an_earlier_batch_shows_in_a_shorter_one(tmp_path: Path, buffer: ReceiveBuffer) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inlet,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet,
    ):
        inlet.bind(("127.0.0.1", 0))
        outlet.connect(inlet.getsockname())
        for number in range(BATCH + 10):
            outlet.send(b"%d" % number)
        assert taken(buffer, inlet, 0) == [b"%d" % number for number in range(BATCH)]
        assert taken(buffer, inlet, 1) == [b"%d" % number for number in range(BATCH, BATCH + 10)]
        outlet.send(b"last")
        assert taken(buffer, inlet, 2) == [b"last"]
        assert taken(buffer, inlet, 3) == []


def test_a_receive_buffer_laid_over_used_memory_sees_what_lies_there(pair: tuple[socket.socket, socket.socket]) -> None:
    memory = memoryview(bytearray(ReceiveBuffer.SIZE))
    pair[1].send(b"left behind")
    ReceiveBuffer(memory).receive(pair[0], 3)
    assert [data for _, _, data in ReceiveBuffer(memory).pending(3)] == [b"left behind"]


@pytest.mark.row(14)
@pytest.mark.parametrize("pair", ["unix"], indirect=True)
def test_a_datagram_longer_than_the_receive_buffer_takes_is_none_and_the_next_is_whole(
    buffer: ReceiveBuffer, pair: tuple[socket.socket, socket.socket]
) -> None:
    inlet, outlet = pair
    for size in (DATAGRAM_BYTES + 1, DATAGRAM_BYTES, 1):
        outlet.send(b"x" * size)
    assert taken(buffer, inlet) == [None, b"x" * DATAGRAM_BYTES, b"x"]


@pytest.mark.parametrize("pair", ["unix"], indirect=True)
def test_a_sender_with_a_path_is_local(
    buffer: ReceiveBuffer, pair: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    pair[1].close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as named:
        named.bind(str(tmp_path / ("n" * 40)))
        named.sendto(b"x", pair[0].getsockname())
    buffer.receive(pair[0], 0)
    [(_, name, data)] = buffer.pending(0)
    assert (sender_address(name), data) == (None, b"x")


def test_a_sender_by_a_dual_stack_socket_is_mapped(buffer: ReceiveBuffer) -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as inlet,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet,
    ):
        inlet.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        inlet.bind(("::", 0))
        outlet.sendto(b"x", ("127.0.0.1", inlet.getsockname()[1]))
        buffer.receive(inlet, 0)
    [(_, name, _)] = buffer.pending(0)
    assert sender_address(name) == "::ffff:127.0.0.1"


def test_a_socket_that_cannot_be_read_raises(buffer: ReceiveBuffer) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as stream, pytest.raises(OSError, match=r".") as caught:
        buffer.receive(stream, 0)
    assert caught.value.errno
    assert list(buffer.pending(0)) == []
