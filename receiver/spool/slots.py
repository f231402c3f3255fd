"""What a worker has taken in and not yet counted, in memory that outlives the worker. No Redis, no parsing.

One anonymous file in memory, made by the arbiter before it forks, holds a slot for every worker. A slot has a receive
buffer, into which the kernel itself writes datagrams, and queues of failures that wait to be counted, one for each
importance. What each holds changes by single eight-byte stores, so a worker killed between any two instructions leaves
a slot that says exactly what is still to do. The lock on the slot ends with its process (fcntl(2)), and then another
worker adopts the slot.

That worker does again what was received but not committed. The id of a failure stays the same, so it counts once.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from receiver.spool.importance import Importance
from receiver.spool.reading import MUTEX_BYTES, Reading
from receiver.spool.receive_buffer import ReceiveBuffer

#: Failures that each queue holds while Redis is away or slow; when it is full, the oldest in it are dropped.
QUEUE_LENGTH = 16_384

#: Bytes of a queued failure, its length in the first two.
RECORD_BYTES = 512

#: How often a receive buffer is tried again after a worker died on it, before it is given up.
MAX_ATTEMPTS = 2

#: Where each queue ends and where it begins: records put in, records taken out.
_TAILS, _HEADS = (tuple(importance.named(end) for importance in Importance) for end in ("tail", "head"))

#: Failures for which their queue had no place, for each importance.
DROPPED = tuple(importance.named("dropped") for importance in Importance)

#: The outcomes of datagrams, known when they are sorted. `batch` is the spool's own: batches done.
INTAKE = (
    "batch", "received", "refused", "malformed", "ignored", "abandoned", "wrong_pin", "pin_prompt",
    "refused_otherwise", "unknown_alias", "registration", "joined", "other", "probe",
)  # fmt: skip

#: The outcomes of queued failures, and the bans that they led to.
OUTCOMES = ("counted", "expired", *DROPPED, "bans")

_WORD = 8
_ATTEMPTS, _INTAKE_AT = 0, 1
_OUTCOMES_AT = _INTAKE_AT + 1 + 2 * len((*INTAKE, *_TAILS))
_READING_AT, _HEADER_BYTES = 2048, 4096  #: bytes


class Row:
    """Numbers that change together: a reader sees all of a change or none of it, also after a crash.

    There are two copies, after a word that counts the changes. The word says which copy is valid; when it has changed
    while a copy was read, that copy is read again.
    """

    def __init__(self, words: memoryview, names: Sequence[str]) -> None:
        self._words = words
        self.names = names

    def read(self) -> dict[str, int]:
        """The numbers as of the last commit."""
        return dict(zip(self.names, self._held(), strict=True))

    def get(self, name: str) -> int:
        """One number as of the last commit."""
        return self._held()[self.names.index(name)]

    def last(self, count: int) -> list[int]:
        """The last so many numbers as of the last commit."""
        return self._held()[-count:]

    def commit(self, added: Mapping[str, int]) -> None:
        """Add to some of the numbers, all at once."""
        commits = self._words[0]
        old, new = self._copy(commits), self._copy(commits + 1)
        for index, name in enumerate(self.names):
            new[index] = old[index] + added.get(name, 0)
        self._words[0] = commits + 1

    def _held(self) -> list[int]:
        while True:
            commits = self._words[0]
            numbers: list[int] = self._copy(commits).tolist()
            if self._words[0] == commits:  # else another process may have written into what we read
                return numbers

    def _copy(self, commits: int) -> memoryview:
        start = 1 + commits % 2 * len(self.names)
        return self._words[start : start + len(self.names)]


class Queue:
    """Failures that wait, the oldest first: a ring of records. Where it begins and ends stands in the slot's rows."""

    BYTES = QUEUE_LENGTH * RECORD_BYTES

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory

    def write(self, tail: int, failures: Sequence[bytes]) -> None:
        """Put these behind `tail`. They are in the queue once the row says so."""
        for number, failure in enumerate(failures, tail):
            at = number % QUEUE_LENGTH * RECORD_BYTES
            self._memory[at : at + 2] = len(failure).to_bytes(2, "little")
            self._memory[at + 2 : at + 2 + len(failure)] = failure

    def read(self, head: int, tail: int) -> list[bytes]:
        """What stands from `head` to before `tail`."""
        records = []
        for number in range(head, tail):
            at = number % QUEUE_LENGTH * RECORD_BYTES
            length = int.from_bytes(self._memory[at : at + 2], "little")
            records.append(bytes(self._memory[at + 2 : at + 2 + length]))
        return records


@dataclass(frozen=True, slots=True)
class Place:
    """Where failures stood that were looked at: in this queue, from `head` on."""

    importance: Importance
    head: int


class Slot:
    """One worker's part of the spool. One thread fills it, another empties it."""

    SIZE = _HEADER_BYTES + ReceiveBuffer.SIZE + len(Importance) * Queue.BYTES

    def __init__(self, memory: memoryview, name: str) -> None:
        self.name = name
        words = memory[:_READING_AT].cast("Q")
        self._words = words
        self.intake = Row(words[_INTAKE_AT:_OUTCOMES_AT], (*INTAKE, *_TAILS))
        outcomes = (*OUTCOMES, *_HEADS)
        self.outcomes = Row(words[_OUTCOMES_AT : _OUTCOMES_AT + 1 + 2 * len(outcomes)], outcomes)
        self.reading = Reading(memory[_READING_AT : _READING_AT + MUTEX_BYTES])
        self._receive_buffer = ReceiveBuffer(memory[_HEADER_BYTES : _HEADER_BYTES + ReceiveBuffer.SIZE])
        queues = memory[_HEADER_BYTES + ReceiveBuffer.SIZE :]
        self._queues = [Queue(queues[i * Queue.BYTES : (i + 1) * Queue.BYTES]) for i in Importance]
        self._taking_out = threading.Lock()

    def receive(self, source: socket.socket) -> int:
        """Let the kernel fill the receive buffer, without waiting; returns how many datagrams. OSError if it fails."""
        return self._receive_buffer.receive(source, self.intake.get("batch"))

    def receive_more(self, source: socket.socket) -> int:
        """The same, behind what the receive buffer has already; `clear` begins."""
        return self._receive_buffer.receive_more(source, self.intake.get("batch"))

    def clear(self) -> None:
        """Nothing is in the receive buffer: make it ready for `receive_more`."""
        self._receive_buffer.clear()

    @property
    def full(self) -> bool:
        """Whether the receive buffer takes no more."""
        return self._receive_buffer.full

    def datagrams(self) -> Iterator[tuple[str, bytes, bytes | None]]:
        """What lies in the receive buffer and is not committed: an id that stays the same, the sender, the datagram.

        The datagram is None when it was longer than DATAGRAM_BYTES.
        """
        batch = self.intake.get("batch")
        for index, sender, data in self._receive_buffer.pending(batch):
            yield f"{self.name}.{batch}.{index}", sender, data

    def commit(self, tally: Mapping[str, int], *failures: Sequence[bytes]) -> None:
        """The receive buffer is done: add these counts of outcomes, and queue these failures, the urgent ones first,
        then those of each other importance.
        """
        dropped: dict[str, int] = {}
        with self._taking_out:
            ends = self._ends()
            for importance, (some, (head, tail)) in enumerate(zip(failures, ends, strict=False)):
                excess = tail - head + len(some) - QUEUE_LENGTH
                if excess > 0:
                    dropped |= {_HEADS[importance]: excess, DROPPED[importance]: excess}
            if dropped:
                self.outcomes.commit(dropped)
        for queue, some, (_, tail) in zip(self._queues, failures, ends, strict=False):
            queue.write(tail, some)
        queued = {name: len(some) for name, some in zip(_TAILS, failures, strict=False)}
        self.intake.commit({**tally, **queued, "batch": 1})
        self._words[_ATTEMPTS] = 0

    @property
    def waiting(self) -> int:
        """How many failures are in the queues."""
        return sum(tail - head for head, tail in self._ends())

    def most_urgent(self) -> Importance | None:
        """The first importance whose queue holds something; None when all are empty."""
        return next((each for each, (head, tail) in zip(Importance, self._ends(), strict=True) if tail > head), None)

    def oldest(self, limit: int, importance: Importance | None = None) -> tuple[Place, list[bytes]]:
        """The first failures of this importance, or of the most urgent that there is, and where they stand; they stay
        there until `settle`.
        """
        with self._taking_out:
            if importance is None:
                importance = self.most_urgent() or Importance.URGENT
            head, tail = self._ends()[importance]
            return Place(importance, head), self._queues[importance].read(head, min(tail, head + limit))

    def settle(self, place: Place, outcomes: Sequence[str], bans: int) -> None:
        """Take failures from this place on out of their queue; those that were dropped meanwhile have their outcome."""
        head = _HEADS[place.importance]
        with self._taking_out:
            dropped = self.outcomes.get(head) - place.head
            added = {head: max(len(outcomes) - dropped, 0), "bans": bans}
            for outcome in outcomes[dropped:]:
                added[outcome] = added.get(outcome, 0) + 1
            self.outcomes.commit(added)

    def _ends(self) -> list[tuple[int, int]]:
        """Where each queue begins and ends. Heads first: what is taken out meanwhile was in before."""
        heads, tails = self.outcomes.last(len(_HEADS)), self.intake.last(len(_TAILS))
        return list(zip(heads, tails, strict=True))

    def left_over(self) -> bool:
        """Whether there is work in the slot: failures in a queue, or datagrams that are not committed."""
        return self.waiting > 0 or self.received()

    def received(self) -> bool:
        """Whether there are datagrams that are not committed."""
        return any(True for _ in self.datagrams())

    def attempt(self) -> bool:
        """Count one more try at the receive buffer of a dead worker; False after more than MAX_ATTEMPTS."""
        self._words[_ATTEMPTS] += 1
        return self._words[_ATTEMPTS] <= MAX_ATTEMPTS


class Spool:
    """All slots. Made once, in the arbiter; workers inherit it."""

    def __init__(self, slots: int) -> None:
        size = Slot.SIZE
        self.file = os.memfd_create("pinban-spool")
        os.ftruncate(self.file, slots * size)
        memory = memoryview(mmap.mmap(self.file, slots * size))
        # A new name for each run: a restarted receiver numbers batches from 0 again, and must not make the same ids.
        self.name = secrets.token_hex(4)
        self.made_at = time.monotonic()  #: when the receiver started, s
        self.slots = [Slot(memory[i * size : (i + 1) * size], f"{self.name}.{i}") for i in range(slots)]

    def claim(self, slot: Slot) -> bool:
        """Lock the slot for this process; False when another process has it.

        A process can lock its own slot again, so it must remember which ones it has.
        """
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self.slots.index(slot))
        except BlockingIOError:
            return False
        return True

    def release(self, slot: Slot) -> None:
        """Give the slot back."""
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, self.slots.index(slot))

    def claim_empty(self) -> Slot | None:
        """Lock a slot whose receive buffer is empty and ready; None when there is none."""
        for slot in self.slots:
            if not slot.received() and self.claim(slot):
                if not slot.received():
                    slot.clear()
                    return slot
                self.release(slot)
        return None

    def is_read(self) -> bool:
        """Whether a worker reads the sockets."""
        return any(slot.reading.goes_on() for slot in self.slots)

    def await_unread(self) -> None:
        """Return when no worker reads the sockets, at once when the last one dies."""
        while self.is_read():
            for slot in self.slots:
                slot.reading.await_end()

    def leads(self) -> bool:
        """Whether this worker does what only one worker of a receiver has to do: the first that asks, until it ends."""
        try:
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, len(self.slots))
        except BlockingIOError:
            return False
        return True

    def totals(self) -> dict[str, int]:
        """The outcomes of every datagram since the receiver started; `failures`, all ever queued; `queued`, those that
        wait; and `queue_dropped`, those of DROPPED together: failures == counted + expired + queue_dropped + queued.
        """
        totals: dict[str, int] = {}
        for slot in self.slots:
            for row in (slot.intake.read(), slot.outcomes.read()):
                for name, value in row.items():
                    totals[name] = totals.get(name, 0) + value
        totals["failures"] = sum(totals.pop(name) for name in _TAILS)
        totals["queued"] = totals["failures"] - sum(totals.pop(name) for name in _HEADS)
        totals["queue_dropped"] = sum(totals[name] for name in DROPPED)
        del totals["batch"]
        return totals
