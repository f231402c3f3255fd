"""Slots that workers leave: adopted once, by one, and only when their worker is gone."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
import pytest

from receiver.assembly import Parts
from receiver.failures import Failure, pack, unpack
from receiver.spool.slots import Slot, Spool
from shared.addresses import Network
from shared.settings.schema import Settings
from tests.parts import parts_of
from tests.unit.receiver.children import Child

#: Nobody here asks Redis for anything: nothing of these parts runs.
SETTINGS = msgspec.structs.replace(Settings(), ignoreself=False)

RECORD = pack(Failure(Network("203.0.113.7"), "pin", "id", "rp1", "meet", 0))


@pytest.fixture
def spool() -> Spool:
    return Spool(3)


@pytest.fixture
def parts(spool: Spool) -> Parts:
    """Of a worker that has the first slot."""
    parts = parts_of(SETTINGS, spool)
    assert spool.claim(spool.slots[0])
    parts.counter.adopt(spool.slots[0], own=True)
    return parts


@pytest.fixture
def other(spool: Spool) -> Iterator[Child]:
    """Another worker, which has the second slot and work in it."""

    def work(child: Child) -> None:
        assert spool.claim(spool.slots[1])
        spool.slots[1].commit({"received": 1, "wrong_pin": 1}, [RECORD])
        child.tell()
        child.pause()

    child = Child(work)
    child.wait_told()
    yield child
    child.go_on()
    child.end()


def adopted(parts: Parts) -> list[Slot]:
    """What a look for slots of dead workers has the counter empty."""
    parts.intake._adopt(parts.counter._slots[0])
    return parts.counter._slots[1:]


def test_a_slot_whose_worker_lives_is_left_to_it(spool: Spool, parts: Parts, other: Child) -> None:
    assert spool.slots[1].left_over()
    assert adopted(parts) == []


def test_a_slot_whose_worker_died_is_adopted_once(spool: Spool, parts: Parts) -> None:
    def die(child: Child) -> None:
        assert spool.claim(spool.slots[1])
        spool.slots[1].commit({"received": 1, "wrong_pin": 1}, [RECORD])

    assert Child(die).end() == 0
    assert adopted(parts) == [spool.slots[1]]
    assert adopted(parts) == [spool.slots[1]], "not twice"


def test_what_only_lies_in_the_receive_buffer_is_adopted_too(spool: Spool, parts: Parts) -> None:
    line = (
        b'{"v":1,"id":"x","ip":"203.0.113.7","m":"POST","k":"conference","a":"a","s":"403","us":"403","l":"45","p":"1"}'
    )
    outlet, inlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)

    def die(child: Child) -> None:
        assert spool.claim(spool.slots[1])
        assert spool.slots[1].receive(inlet) == 1

    with outlet, inlet:
        outlet.send(line)
        assert Child(die).end() == 0
    assert adopted(parts) == [spool.slots[1]]
    assert [unpack(record).id for record in spool.slots[1].oldest(9)[1]] == ["x"]


def test_a_slot_with_nothing_in_it_stays_free_for_a_new_worker(spool: Spool, parts: Parts) -> None:
    assert adopted(parts) == []
    assert Child(lambda _: _claim(spool, 2)).end() == 0


def test_two_workers_never_adopt_the_same_slot(spool: Spool, parts: Parts) -> None:
    spool.slots[1].commit({"received": 1, "wrong_pin": 1}, [RECORD])

    def adopt(child: Child) -> None:
        mine = parts_of(SETTINGS, spool)
        assert spool.claim(spool.slots[2])
        mine.counter.adopt(spool.slots[2], own=True)
        assert adopted(mine) == [spool.slots[1]]
        child.tell()
        child.pause()

    child = Child(adopt)
    child.wait_told()
    assert adopted(parts) == []
    child.kill()
    assert adopted(parts) == [spool.slots[1]]


def _claim(spool: Spool, number: int) -> None:
    assert spool.claim(spool.slots[number])
