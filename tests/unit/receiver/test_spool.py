"""What a worker took in survives it: nothing lost, nothing doubled, wherever it was killed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import count
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import receiver.intake
import receiver.spool.receive_buffer
import receiver.spool.slots
from receiver.failures import Failure, pack, unpack
from receiver.intake import recover
from receiver.spool.importance import Importance
from receiver.spool.receive_buffer import BATCH
from receiver.spool.slots import DROPPED, MAX_ATTEMPTS, QUEUE_LENGTH, RECORD_BYTES, Row, Slot, Spool
from shared.addresses import counted_network
from shared.settings.schema import Settings
from tests.parts import sorter_of
from tests.unit.receiver.children import Child, killed_at

FILES = tuple(str(module.__file__) for module in (receiver.spool.receive_buffer, receiver.intake, receiver.spool.slots))

SETTINGS = msgspec.structs.replace(Settings(), ignoreself=False)

#: A wrong PIN, refused credentials, and a prompt.
LINE = (
    b'{"v":1,"id":"%s","ip":"203.0.113.7","m":"POST","k":"conference","a":"meet","s":"403","us":"403","l":"45","p":"1"}'
)


LOGIN = LINE.replace(b"conference", b"registration").replace(b'"p":"1"', b'"c":"1"')
PROMPT = LINE.replace(b'"p":"1"', b'"p":"0"').replace(b"45", b"73")


@pytest.fixture
def spool() -> Spool:
    return Spool(2)


@pytest.fixture
def slot(spool: Spool) -> Slot:
    return spool.slots[0]


@pytest.fixture
def inlet() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inlet:
        inlet.bind(("127.0.0.1", 0))
        yield inlet


def send(inlet: socket.socket, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        for datagram in datagrams:
            outlet.sendto(datagram, inlet.getsockname())


def lines(first: int, number: int) -> list[bytes]:
    return [LINE % b"%d" % i for i in range(first, first + number)]


def queued(slot: Slot) -> list[bytes]:
    return slot.oldest(QUEUE_LENGTH)[1]


def queued_ids(slot: Slot) -> list[str]:
    return [unpack(record).id for record in queued(slot)]


def settle_all(slot: Slot, outcome: str = "counted") -> None:
    head, records = slot.oldest(QUEUE_LENGTH)
    slot.settle(head, [outcome] * len(records), 0)


def happened(slot: Slot) -> dict[str, int]:
    """The outcomes of failures, without what did not happen."""
    return {name: number for name, number in slot.outcomes.read().items() if number}


def test_a_row_adds_and_reads_back() -> None:
    row = Row(memoryview(bytearray(8 * 7)).cast("Q"), ("a", "b", "c"))
    row.commit({"a": 1, "c": 5})
    row.commit({"a": 1, "b": 2})
    assert row.read() == {"a": 2, "b": 2, "c": 5}
    assert row.get("c") == 5


def test_a_commit_cut_short_at_any_line_is_whole_or_never_was() -> None:
    spool = Spool(1)
    row = spool.slots[0].intake
    expected = 0
    for line in count():
        killed = killed_at(line, FILES, lambda: row.commit(dict.fromkeys(row.names, 1)))
        values = set(row.read().values())
        assert values in ({expected}, {expected + 1})
        [expected] = values
        if not killed:
            break
    assert line > 10


def test_who_reads_while_another_process_commits_sees_whole_changes(spool: Spool) -> None:
    row = spool.slots[0].intake

    def commit(child: Child) -> None:
        child.tell()
        while True:
            row.commit(dict.fromkeys(row.names, 1))

    child = Child(commit)
    child.wait_told()
    try:
        seen = [row.read() for _ in range(50_000)]
    finally:
        child.kill()
    assert len({each["received"] for each in seen}) > 10, "there were changes"
    assert all(len(set(each.values())) == 1 for each in seen)


def test_failures_wait_in_order_until_they_are_settled(slot: Slot) -> None:
    slot.commit({}, [b"one", b"two", b"three"])
    assert slot.waiting == 3
    head, records = slot.oldest(2)
    assert records == [b"one", b"two"]
    assert slot.oldest(2) == (head, records)
    slot.settle(head, ["counted", "expired"], 1)
    assert queued(slot) == [b"three"]
    assert happened(slot) == {"urgent_head": 2, "counted": 1, "expired": 1, "bans": 1}


def test_a_full_queue_drops_the_oldest_and_counts_them_exactly(slot: Slot) -> None:
    slot.commit({}, [b"%d" % i for i in range(QUEUE_LENGTH - 1)])
    slot.commit({}, [b"%d" % i for i in range(QUEUE_LENGTH - 1, QUEUE_LENGTH + 9)])
    assert slot.waiting == QUEUE_LENGTH
    assert queued(slot) == [b"%d" % i for i in range(9, QUEUE_LENGTH + 9)]
    assert slot.outcomes.get("urgent_dropped") == 9


def test_failures_dropped_while_they_were_being_counted_have_one_outcome(slot: Slot) -> None:
    slot.commit({}, [b"old"] * QUEUE_LENGTH)
    head, records = slot.oldest(10)
    slot.commit({}, [b"new"] * 4)
    slot.settle(head, ["counted"] * len(records), 0)
    assert happened(slot) == {"urgent_head": 10, "counted": 6, "urgent_dropped": 4}
    assert slot.waiting == QUEUE_LENGTH - 6


def test_failures_all_dropped_while_they_were_being_counted_are_not_counted_too(slot: Slot) -> None:
    slot.commit({}, [b"old"] * QUEUE_LENGTH)
    head, records = slot.oldest(3)
    slot.commit({}, [b"new"] * 5)
    slot.settle(head, ["counted"] * len(records), 0)
    assert happened(slot) == {"urgent_head": 5, "urgent_dropped": 5}


def test_the_most_urgent_go_first_whenever_they_came(slot: Slot) -> None:
    slot.commit({}, [], [b"scan"], [b"prompt", b"prompt"])
    slot.commit({}, [b"pin"], [], [b"prompt"])
    for importance, records in zip(Importance, ([b"pin"], [b"scan"], [b"prompt"] * 3), strict=True):
        assert slot.most_urgent() is importance
        place, found = slot.oldest(9)
        assert (place.importance, found) == (importance, records)
        slot.settle(place, ["counted"] * len(records), 0)
    assert slot.most_urgent() is None
    assert slot.oldest(9)[1] == []


def test_what_comes_meanwhile_is_not_taken_for_what_was_looked_at(slot: Slot) -> None:
    """Prompts are under way to Redis when wrong PINs come, and more prompts than their queue holds."""
    slot.commit({}, [], [], [b"prompt"] * QUEUE_LENGTH)
    place, records = slot.oldest(10)
    slot.commit({}, [b"pin"] * 7, [], [b"prompt"] * 4)
    slot.settle(place, ["counted"] * len(records), 0)
    assert happened(slot) == {"least_head": 10, "counted": 6, "least_dropped": 4}
    assert queued(slot) == [b"pin"] * 7


def test_a_full_queue_takes_nothing_from_another(slot: Slot) -> None:
    slot.commit({}, [b"pin"], [b"scan"], [b"prompt"])
    slot.commit({}, [], [], [b"prompt"] * 2 * QUEUE_LENGTH)
    slot.commit({}, [], [b"scan"] * QUEUE_LENGTH)
    assert {name: slot.outcomes.get(name) for name in DROPPED} == {
        "urgent_dropped": 0, "ordinary_dropped": 1, "least_dropped": QUEUE_LENGTH + 1,
    }  # fmt: skip
    assert queued(slot) == [b"pin"]


#: A queue that is soon full.
SHORT = 64


@given(
    st.lists(
        st.tuples(
            *[st.integers(0, 50)] * 3,  # put into each queue
            st.sampled_from([None, *Importance]),
            st.integers(0, 100),  # looked at
            st.tuples(*[st.integers(0, 50)] * 3),  # put into each queue before these are settled
        ),
        max_size=20,
    )
)
def test_every_failure_that_was_queued_ends_in_one_outcome(
    steps: list[tuple[int, int, int, Importance | None, int, tuple[int, int, int]]],
) -> None:
    """In its own queue, in order: a model of three lists that each lose their oldest says what each must hold."""
    with patch.object(receiver.spool.slots, "QUEUE_LENGTH", SHORT):
        follow(steps)


def follow(steps: list[tuple[int, int, int, Importance | None, int, tuple[int, int, int]]]) -> None:
    slot = SHARED.slots[0]
    while slot.most_urgent() is not None:
        settle_all(slot)
    before = slot.outcomes.read()
    model: list[list[bytes]] = [[], [], []]
    sent = 0
    dropped = dict.fromkeys(Importance, 0)

    def put(*numbers: int) -> None:
        nonlocal sent
        batch = []
        for importance, number in zip(Importance, numbers, strict=True):
            batch.append([b"%d" % n for n in range(sent, sent + number)])
            sent += number
            model[importance] += batch[-1]
            excess = max(len(model[importance]) - SHORT, 0)
            dropped[importance] += excess
            del model[importance][:excess]
        slot.commit({}, *batch)

    for *some, importance, take, late in steps:
        put(*some)
        place, records = slot.oldest(take, importance)
        first = next((each for each in Importance if model[each]), Importance.URGENT)
        assert place.importance == (first if importance is None else importance)
        assert records == model[place.importance][:take]
        put(*late)
        slot.settle(place, ["counted"] * len(records), 0)
        done = set(records)
        model[place.importance] = [record for record in model[place.importance] if record not in done]
    after = slot.outcomes.read()
    assert [slot.oldest(SHORT, each)[1] for each in Importance] == model
    assert [after[name] - before[name] for name in DROPPED] == list(dropped.values())
    gone = sum(after[name] - before[name] for name in ("counted", "expired", *DROPPED))
    assert gone + slot.waiting == sent


SHARED = Spool(1)


def test_the_totals_are_those_of_all_slots(spool: Spool) -> None:
    for slot in spool.slots:
        slot.commit({"received": 2, "wrong_pin": 1, "other": 1}, [b"x"])
    settle_all(spool.slots[1])
    totals = spool.totals()
    assert (totals["received"], totals["wrong_pin"], totals["other"]) == (4, 2, 2)
    assert (totals["queued"], totals["counted"]) == (1, 1)
    assert not [name for name in totals if name.endswith(("head", "tail"))]
    assert "batch" not in totals


def test_a_slot_has_one_owner_and_is_free_when_it_dies(spool: Spool, slot: Slot) -> None:
    def claim(child: Child) -> None:
        assert spool.claim(slot)
        child.tell()
        child.pause()

    child = Child(claim)
    child.wait_told()
    assert not spool.claim(slot)
    assert spool.claim(spool.slots[1])
    child.kill()
    assert spool.claim(slot)


def test_one_worker_leads_and_another_does_when_it_dies(spool: Spool) -> None:
    def lead(child: Child) -> None:
        assert spool.leads()
        assert spool.leads(), "it stays so"
        child.tell()
        child.pause()

    child = Child(lead)
    child.wait_told()
    assert not spool.leads()
    assert all(spool.claim(slot) for slot in spool.slots), "slots are another matter"
    child.kill()
    assert spool.leads()


def test_a_released_slot_can_be_claimed_by_another(spool: Spool, slot: Slot) -> None:
    def claim(child: Child) -> None:
        assert not spool.claim(slot)
        child.tell()
        child.pause()
        assert spool.claim(slot)

    assert spool.claim(slot)
    child = Child(claim)
    child.wait_told()
    spool.release(slot)
    child.go_on()
    assert child.end() == 0


def test_what_a_killed_worker_received_is_its_heirs(spool: Spool, slot: Slot, inlet: socket.socket) -> None:
    def receive(child: Child) -> None:
        assert spool.claim(slot)
        assert slot.receive(inlet) == 3
        child.tell()
        child.pause()

    send(inlet, *lines(0, 3))
    child = Child(receive)
    child.wait_told()
    child.kill()
    assert slot.left_over()
    assert spool.claim(slot)
    assert [data for _, _, data in slot.datagrams()] == lines(0, 3)
    recover(slot, sorter_of(SETTINGS))
    assert queued_ids(slot) == ["0", "1", "2"]
    assert not list(slot.datagrams())
    assert slot.intake.get("received") == 3


class Interrupted(Row):
    """Stops in front of the commit."""

    child: Child

    def commit(self, added: object) -> None:
        self.child.tell()
        self.child.pause()


def test_a_worker_killed_between_queue_and_commit_leaves_its_receive_buffer_to_do(
    spool: Spool, slot: Slot, inlet: socket.socket
) -> None:
    def sort(child: Child) -> None:
        slot.intake = Interrupted(slot.intake._words, slot.intake.names)
        slot.intake.child = child
        slot.receive(inlet)
        sorter_of(SETTINGS).sort(slot)

    send(inlet, *lines(0, 3))
    child = Child(sort)
    child.wait_told()
    child.kill()
    assert (slot.waiting, slot.intake.get("received")) == (0, 0)
    recover(slot, sorter_of(SETTINGS))
    assert queued_ids(slot) == ["0", "1", "2"]


def test_wherever_a_worker_is_killed_every_datagram_is_taken_in_once(slot: Slot, inlet: socket.socket) -> None:
    sorter = sorter_of(SETTINGS)

    def work() -> None:
        slot.receive(inlet)
        sorter.sort(slot)

    def inherit(_: Child) -> None:
        recover(slot, sorter)
        work()  # what the worker did not come to

    for sent in count():
        send(inlet, PROMPT % b"%d" % sent, LINE % b"%d" % sent, LOGIN % b"%d" % sent, b"garbage")
        killed = killed_at(sent, FILES, work)
        assert Child(inherit).end() == 0
        for importance in Importance:
            assert slot.most_urgent() is importance
            assert queued_ids(slot) == [str(sent)], f"killed at line {sent}"
            settle_all(slot)
        assert slot.waiting == 0
        assert slot.intake.get("received") == 4 * (sent + 1)
        assert slot.intake.get("malformed") == sent + 1
        if not killed:
            break
    assert sent > 100


def test_a_failure_without_an_id_has_the_same_one_for_the_heir(slot: Slot, inlet: socket.socket) -> None:
    combined = b'203.0.113.7 - - [x] "POST /api/client/v2/conferences/a/request_token HTTP/1.1" 403 45 "-" "-"'
    send(inlet, combined, combined)
    slot.receive(inlet)
    first, second = ([id_ for id_, _, _ in slot.datagrams()] for _ in range(2))
    assert first == second
    assert len(set(first)) == 2
    sorter_of(SETTINGS).sort(slot)
    failures = [unpack(record) for record in queued(slot)]
    assert [failure.copy for failure in failures] == first
    assert len({failure.id for failure in failures}) == 1
    send(inlet, combined)
    slot.receive(inlet)
    assert not {id_ for id_, _, _ in slot.datagrams()} & set(first)


def test_two_runs_never_make_the_same_id(inlet: socket.socket) -> None:
    ids = set()
    for spool in (Spool(1), Spool(1)):
        send(inlet, b"x")
        spool.slots[0].receive(inlet)
        ids |= {id_ for id_, _, _ in spool.slots[0].datagrams()}
    assert len(ids) == 2


def test_a_receive_buffer_that_kills_its_workers_is_given_up_and_counted(slot: Slot, inlet: socket.socket) -> None:
    send(inlet, *lines(0, 2))
    slot.receive(inlet)
    for _ in range(MAX_ATTEMPTS):
        assert slot.attempt()  # and its worker dies
    recover(slot, sorter_of(SETTINGS))
    assert (slot.intake.get("received"), slot.intake.get("abandoned")) == (2, 2)
    assert not slot.left_over()


def test_attempts_are_counted_anew_for_each_batch(slot: Slot, inlet: socket.socket) -> None:
    sorter = sorter_of(SETTINGS)
    for first in range(0, 2 * MAX_ATTEMPTS + 2, 2):
        send(inlet, *lines(first, 2))
        slot.receive(inlet)
        recover(slot, sorter)
    assert slot.intake.get("abandoned") == 0
    assert slot.waiting == 2 * MAX_ATTEMPTS + 2


def test_a_batch_full_of_failures_is_queued_whole(slot: Slot, inlet: socket.socket) -> None:
    send(inlet, *lines(0, BATCH))
    assert slot.receive(inlet) == BATCH
    assert sorter_of(SETTINGS).sort(slot) == BATCH
    assert queued_ids(slot) == [str(i) for i in range(BATCH)]


texts = st.text(max_size=200) | st.text("\U0001f600ä\U00020000", min_size=60, max_size=200)


@given(
    texts,
    texts,
    st.ip_addresses(v=6).map(lambda a: socket.inet_ntop(socket.AF_INET6, a.packed)),
    st.integers(0, 2**63),
    st.integers(32, 128),
)
def test_no_failure_is_too_long_for_its_record(id_: str, alias: str, address: str, now_ms: int, prefix: int) -> None:
    network, levels = counted_network(address, prefix), (112, 56, 48, 32)
    failure = Failure(network, "a-rule-of-16-abc", id_, address, alias, now_ms, True, levels, "", 2**40)
    packed = pack(failure)
    assert len(packed) <= RECORD_BYTES - 2
    read = unpack(packed)
    assert (read.network, read.rule, read.rp, read.received_ms) == (failure.network, failure.rule, address, now_ms)
    assert not any(c.isspace() or not c.isprintable() for c in read.id + read.alias)


def test_the_last_record_of_the_queue_takes_the_longest_failure(slot: Slot) -> None:
    longest = pack(
        Failure(counted_network("2001:db8::1"), "pin", "\U0001f600" * 64, "x" * 39, "\U0001f600" * 64, 2**63)
    )
    slot.commit({}, [longest] * (QUEUE_LENGTH + 1))
    assert queued(slot) == [longest] * QUEUE_LENGTH
