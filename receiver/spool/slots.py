"""What a worker has taken in and not yet counted, in memory that outlives the worker. No Redis, no parsing.

One anonymous file in memory, made by the arbiter before it forks, holds a slot for every worker. A slot has a receive
buffer, into which the kernel itself writes datagrams, and a queue of failures that wait to be counted. What each holds
changes by single eight-byte stores, so a worker killed between any two instructions leaves a slot that says exactly
what is still to do. The lock on the slot ends with its process (fcntl(2)), and then another worker adopts the slot.

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

from receiver.spool.receive_buffer import ReceiveBuffer

#: Failures that a slot holds while Redis is away; when it is full, the oldest are dropped.
QUEUE_LENGTH = 16_384

#: Bytes of a queued failure, its length in the first two.
RECORD_BYTES = 512

#: How often a receive buffer is tried again after a worker died on it, before it is given up.
MAX_ATTEMPTS = 2

#: The outcomes of datagrams, known when they are sorted. `tail` and `batch` are the spool's own: records queued,
#: batches done.
INTAKE = (
    "tail", "batch", "received", "refused", "malformed", "ignored", "abandoned", "wrong_pin", "pin_prompt",
    "refused_otherwise", "unknown_alias", "registration", "joined", "other", "probe",
)  # fmt: skip

#: The outcomes of queued failures. `head` is the spool's own: records taken out.
OUTCOMES = ("head", "counted", "expired", "queue_dropped", "bans")

_WORD = 8
_ATTEMPTS, _INTAKE_AT = 0, 1
_OUTCOMES_AT = _INTAKE_AT + 1 + 2 * len(INTAKE)
_HEADER_BYTES = 4096


class Row:
    """Numbers that change together: a reader sees all of a change or none of it, also after a crash.

    There are two copies, after a word that counts the changes. The word says which copy is valid; when it has changed
    while a copy was read, that copy is read again.
    """

    def __init__(self, words: memoryview, names: Sequence[str]) -> None:
        self._words = words
        self._names = names

    def read(self) -> dict[str, int]:
        """The numbers as of the last commit."""
        return dict(zip(self._names, self._held(), strict=True))

    def get(self, name: str) -> int:
        """One number as of the last commit."""
        return self._held()[self._names.index(name)]

    def commit(self, added: Mapping[str, int]) -> None:
        """Add to some of the numbers, all at once."""
        commits = self._words[0]
        old, new = self._copy(commits), self._copy(commits + 1)
        for index, name in enumerate(self._names):
            new[index] = old[index] + added.get(name, 0)
        self._words[0] = commits + 1

    def _held(self) -> list[int]:
        while True:
            commits = self._words[0]
            numbers: list[int] = self._copy(commits).tolist()
            if self._words[0] == commits:  # else another process may have written into what we read
                return numbers

    def _copy(self, commits: int) -> memoryview:
        start = 1 + commits % 2 * len(self._names)
        return self._words[start : start + len(self._names)]


class Slot:
    """One worker's part of the spool. One thread fills it, another empties it."""

    def __init__(self, memory: memoryview, name: str) -> None:
        self.name = name
        words = memory[:_HEADER_BYTES].cast("Q")
        self._words = words
        self.intake = Row(words[_INTAKE_AT:_OUTCOMES_AT], INTAKE)
        self.outcomes = Row(words[_OUTCOMES_AT : _OUTCOMES_AT + 1 + 2 * len(OUTCOMES)], OUTCOMES)
        self._receive_buffer = ReceiveBuffer(memory[_HEADER_BYTES : _HEADER_BYTES + ReceiveBuffer.SIZE])
        self._queue = memory[_HEADER_BYTES + ReceiveBuffer.SIZE :]
        self._taking_out = threading.Lock()

    def receive(self, source: socket.socket) -> int:
        """Let the kernel fill the receive buffer, without waiting; returns how many datagrams. OSError if it fails."""
        return self._receive_buffer.receive(source, self.intake.get("batch"))

    def datagrams(self) -> Iterator[tuple[str, bytes, bytes | None]]:
        """What lies in the receive buffer and is not committed: an id that stays the same, the sender, the datagram.

        The datagram is None when it was longer than DATAGRAM_BYTES.
        """
        batch = self.intake.get("batch")
        for index, sender, data in self._receive_buffer.pending(batch):
            yield f"{self.name}.{batch}.{index}", sender, data

    def commit(self, tally: Mapping[str, int], failures: Sequence[bytes]) -> None:
        """The receive buffer is done: add these counts of outcomes, and queue these failures."""
        with self._taking_out:
            excess = self.waiting + len(failures) - QUEUE_LENGTH
            if excess > 0:
                self.outcomes.commit({"head": excess, "queue_dropped": excess})
        tail = self.intake.get("tail")
        for offset, failure in enumerate(failures):
            at = (tail + offset) % QUEUE_LENGTH * RECORD_BYTES
            self._queue[at : at + 2] = len(failure).to_bytes(2, "little")
            self._queue[at + 2 : at + 2 + len(failure)] = failure
        self.intake.commit({**tally, "tail": len(failures), "batch": 1})
        self._words[_ATTEMPTS] = 0

    @property
    def waiting(self) -> int:
        """How many failures are in the queue."""
        return self.intake.get("tail") - self.outcomes.get("head")

    def oldest(self, limit: int) -> tuple[int, list[bytes]]:
        """Where the queue begins, and its first failures; they stay in it until `settle`."""
        with self._taking_out:
            head = self.outcomes.get("head")
            records = []
            for index in range(head, min(self.intake.get("tail"), head + limit)):
                at = index % QUEUE_LENGTH * RECORD_BYTES
                length = int.from_bytes(self._queue[at : at + 2], "little")
                records.append(bytes(self._queue[at + 2 : at + 2 + length]))
            return head, records

    def settle(self, head: int, outcomes: Sequence[str], bans: int) -> None:
        """Take failures from `head` on out of the queue, with these outcomes; those dropped meanwhile have theirs."""
        with self._taking_out:
            dropped = self.outcomes.get("head") - head
            added = {"head": max(len(outcomes) - dropped, 0), "bans": bans}
            for outcome in outcomes[dropped:]:
                added[outcome] = added.get(outcome, 0) + 1
            self.outcomes.commit(added)

    def left_over(self) -> bool:
        """Whether there is work in the slot: failures in the queue, or datagrams that are not committed."""
        return self.waiting > 0 or any(True for _ in self.datagrams())

    def attempt(self) -> bool:
        """Count one more try at the receive buffer of a dead worker; False after more than MAX_ATTEMPTS."""
        self._words[_ATTEMPTS] += 1
        return self._words[_ATTEMPTS] <= MAX_ATTEMPTS


class Spool:
    """All slots. Made once, in the arbiter; workers inherit it."""

    def __init__(self, slots: int) -> None:
        size = _HEADER_BYTES + ReceiveBuffer.SIZE + QUEUE_LENGTH * RECORD_BYTES
        self._file = os.memfd_create("pinban-spool")
        os.ftruncate(self._file, slots * size)
        memory = memoryview(mmap.mmap(self._file, slots * size))
        # A new name for each run: a restarted receiver numbers batches from 0 again, and must not make the same ids.
        self.name = secrets.token_hex(4)
        self.made_at = time.monotonic()  #: when the receiver started, s
        self.slots = [Slot(memory[i * size : (i + 1) * size], f"{self.name}.{i}") for i in range(slots)]

    def claim(self, slot: Slot) -> bool:
        """Lock the slot for this process; False when another process has it.

        A process can lock its own slot again, so it must remember which ones it has.
        """
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, self.slots.index(slot))
        except BlockingIOError:
            return False
        return True

    def release(self, slot: Slot) -> None:
        """Give the slot back."""
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self.slots.index(slot))

    def leads(self) -> bool:
        """Whether this worker does what only one worker of a receiver has to do: the first that asks, until it ends."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, len(self.slots))
        except BlockingIOError:
            return False
        return True

    def totals(self) -> dict[str, int]:
        """The outcomes of every datagram since the receiver started; `failures`, all ever queued, and `queued`,
        those that wait: failures == counted + expired + queue_dropped + queued.
        """
        totals: dict[str, int] = {}
        for slot in self.slots:
            for row in (slot.intake.read(), slot.outcomes.read()):
                for name, value in row.items():
                    totals[name] = totals.get(name, 0) + value
        totals["failures"] = totals.pop("tail")
        totals["queued"] = totals["failures"] - totals.pop("head")
        del totals["batch"]
        return totals
