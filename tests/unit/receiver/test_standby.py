"""Between two workers the standby reads: what it took is there for a worker, wherever it was killed."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import pytest

import receiver.spool.receive_buffer
import receiver.spool.slots
import receiver.standby
from receiver.spool.receive_buffer import BATCH
from receiver.spool.slots import Spool
from receiver.standby import Standby, keep_read
from tests.lab.process import wait_until
from tests.unit.receiver.children import Child, killed_at

FILES = tuple(
    str(module.__file__) for module in (receiver.standby, receiver.spool.receive_buffer, receiver.spool.slots)
)


@pytest.fixture
def spool() -> Spool:
    return Spool(4)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    outlet, inlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with outlet, inlet:
        inlet.setblocking(False)
        yield outlet, inlet


def lying(spool: Spool) -> list[bytes | None]:
    """What a worker finds in the receive buffers of free slots."""
    found = []
    for slot in spool.slots:
        assert spool.claim(slot)
        found += [data for _, _, data in slot.datagrams()]
        spool.release(slot)
    return found


def left(inlet: socket.socket) -> list[bytes]:
    found = []
    with suppress(BlockingIOError):
        while True:
            found.append(inlet.recv(100))
    return found


def test_the_end_of_a_reader_is_noticed_when_it_says_so_and_when_it_is_killed(spool: Spool) -> None:
    def read(child: Child) -> None:
        assert spool.slots[2].reading.begin()
        child.tell()
        child.pause()
        spool.slots[2].reading.end()
        child.tell()
        child.pause()
        assert spool.slots[2].reading.begin()
        child.tell()
        child.pause()

    assert not spool.is_read()
    spool.await_unread()
    child = Child(read)
    child.wait_told()
    assert spool.is_read()
    waiting = threading.Thread(target=spool.await_unread)
    waiting.start()
    assert waiting.is_alive()
    child.go_on()
    child.wait_told()
    waiting.join()
    child.go_on()
    child.wait_told()
    assert spool.is_read()
    waiting = threading.Thread(target=spool.await_unread)
    waiting.start()
    assert waiting.is_alive()
    child.kill()
    waiting.join()
    assert not spool.is_read()
    assert spool.slots[2].reading.begin(), "the next worker of this slot can read"
    spool.slots[2].reading.end()


def test_what_comes_while_nobody_reads_lies_in_free_slots_and_no_slot_is_used_up_for_a_few(
    spool: Spool, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    outlet, inlet = pair
    monkeypatch.setattr(receiver.standby, "_BEGINNERS_S", 0.0)
    assert spool.claim(spool.slots[0])
    sent = [b"%d" % n for n in range(BATCH + 7)]

    def stand_by(_: Child) -> None:
        keep_read([inlet], spool)

    child = Child(stand_by)
    for datagram in sent:
        outlet.send(datagram)
    wait_until(lambda: spool.slots[2].received() and len(list(spool.slots[2].datagrams())) == 7, "two slots hold it")
    assert spool.slots[0].reading.begin(), "a worker reads"
    assert child.end() == 0
    spool.slots[0].reading.end()
    assert lying(spool) == sent
    assert not spool.slots[3].received()


def test_when_all_slots_are_full_the_rest_stays_in_the_socket(
    spool: Spool, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    outlet, inlet = pair
    monkeypatch.setattr(receiver.standby, "_BEGINNERS_S", 0.0)
    sent = [b"%d" % n for n in range(4 * BATCH + 5)]
    child = Child(lambda _: keep_read([inlet], spool))
    for datagram in sent:
        outlet.send(datagram)
    wait_until(lambda: sum(len(list(slot.datagrams())) for slot in spool.slots) == 4 * BATCH, "they are full")
    assert spool.slots[0].reading.begin()
    assert child.end() == 0
    spool.slots[0].reading.end()
    assert lying(spool) + left(inlet) == sent


def test_wherever_the_standby_is_killed_every_datagram_lies_in_a_slot_or_in_the_socket(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    outlet, inlet = pair
    for line in count():
        spool = Spool(2)
        sent = [b"%d.%d" % (line, n) for n in range(5)]
        for datagram in sent:
            outlet.send(datagram)
        killed = killed_at(line, FILES, lambda: move_all(inlet, spool))  # noqa: B023
        assert lying(spool) + left(inlet) == sent, f"killed at line {line}"
        if not killed:
            break
    assert line > 20


def move_all(inlet: socket.socket, spool: Spool) -> None:
    receiver.standby._move([inlet], None, spool)


def test_one_standby_lives_as_long_as_it_is_wanted(
    spool: Spool, pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not started twice, and again when it was killed."""
    monkeypatch.setattr(receiver.standby, "_START_EVERY_S", 0.0)
    standby = Standby([pair[1]], spool)
    assert not standby._lives()
    standby.ensure()
    first = standby._pid
    standby.ensure()
    assert standby._pid == first
    os.kill(first, signal.SIGTERM)
    os.kill(first, signal.SIGKILL)
    os.waitpid(first, 0)
    standby.ensure()
    second = standby._pid
    assert second != first
    pair[0].send(b"x")
    wait_until(spool.slots[0].received, "it reads")
    standby.end()
    os.waitpid(second, 0)
    standby.ensure()
    assert standby._pid == second, "the receiver ends"


def test_where_there_is_no_unix_socket_there_is_no_standby(spool: Spool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inlet:
        standby = Standby([inlet], spool)
        standby.ensure()
        assert standby._pid == 0
