"""The thread that watches which clients have connections, and tells receivers that ask. It judges nobody.

A short connection must not look like none, so it listens all of the time: that costs 9 µs for each connection that is
closed (bench/results/witness.txt). Forged log lines are told from real ones by this (ADR 20,
docs/adr/0020-a-witness-in-the-kernel.md).
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
import traceback
from collections import deque
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from enforcer.witness.peers import Answer, Peers
from enforcer.witness.sockets import Sockets
from shared.addresses import Network, NetworkSet
from shared.errors import FirewallError, StoreError
from shared.events import Question
from shared.exempt import own_addresses
from shared.logs import Sparingly
from shared.settings import Settings
from shared.store import HASTY_S, Command, connect

#: A failure that is in question came this much earlier, at most, than its age says: lines wait on their way, ms.
_MARGIN_MS = 2_000

#: How long after a question its answer may be "unseen", ms: nginx logs a request before it closes the connection.
_CERTAIN_MS = 200

#: Closings are read together, this often, s: a busy host closes thousands of connections a second. While an answer is
#: due it looks more often.
_PAUSE_S, _SOON_S = 0.1, 0.02

#: After a dump no other follows for this many times as long as it took.
_REST = 4

#: Most questions that wait, and most that are answered in one round trip.
_MOST, _BATCH = 10_000, 500

#: How long an answer stays in Redis, ms; receivers wait for it for a second.
_ANSWER_MS = 10_000

#: How often the host's addresses are read, s, and how many of them are told at most.
_CLAIM_EVERY_S, _MOST_ADDRESSES = 10.0, 100

#: Before the kernel is asked again after it refused, s.
_RETRY_S = 2.0

_log = logging.getLogger("pinban.enforcer")


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Question
    at_ms: int  #: when it came

    @property
    def since_ms(self) -> int:
        return self.at_ms - self.question.age_ms - _MARGIN_MS

    @property
    def field(self) -> str:
        return f"{self.question.network} {self.question.id}"


class Witness(threading.Thread):
    """Answers until told to stop. `ask` may be called by any thread."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="witness", daemon=True)
        self._enforcer = settings.enforcer
        self._store = connect(settings, f"witness-{settings.enforcer.node}", HASTY_S)
        self._key = self._store.keys.witness(settings.enforcer.node)
        self._waiting: deque[_Asked] = deque(maxlen=_MOST)  #: questions that the thread has not taken yet
        self._open: list[_Asked] = []  #: those that it has, and has not answered
        self._banned: deque[Network] = deque(maxlen=_MOST)  #: whose connections are to be ended
        self._told: deque[tuple[int, str]] = deque()  #: answers in Redis, when and under which field
        self._tidy = False  #: whether the answers of an earlier run are out of Redis
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = threading.Event()
        self._sparingly = Sparingly(_log, every_s=10.0)
        self._peers = Peers(_now_ms())
        self._sockets: Sockets | None = None
        self._listening = False
        self._looked_ms, self._look_at_ms = 0, 0  #: when the last dump began, and when the next one may
        self._cut_at_ms = 0  #: when connections may be ended again
        self._blind = blind(settings)
        self._claim_at = 0.0
        self.trouble = self._blind or "has not looked yet"  #: why it cannot look, or ""
        self.addresses = ""  #: of this host, with spaces between them: log lines from there are of this RP

    def ask(self, question: Question) -> None:
        """Have a question answered soon."""
        self._waiting.append(_Asked(question, _now_ms()))
        os.eventfd_write(self._bell, 1)

    def cut(self, networks: Collection[Network]) -> None:
        """Have the connections of banned networks ended soon. What their clients sent before the ban waits in them, and
        would be asked of the nodes one after the other; the answers would come once the ban is over.
        """
        self._banned.extend(networks)
        os.eventfd_write(self._bell, 1)

    def stop(self) -> None:
        """End the loop."""
        self._stopping.set()
        os.eventfd_write(self._bell, 1)

    def run(self) -> None:
        """Watch and answer; after any failure look again, and own up to what was missed."""
        while not self._stopping.is_set():
            try:
                self._watch()
            except FirewallError as error:
                self._stumble(str(error))
            except StoreError as error:
                self._open.clear()
                self._sparingly.warning("store", "cannot tell receivers what this kernel knows: %s", error)
            except Exception:  # noqa: BLE001  one bug must not end the witness
                self._stumble("a bug in pinban; see the enforcer's log")
                self._sparingly.say(logging.ERROR, "bug", "the witness failed: a bug in pinban: %s",
                                    traceback.format_exc().rstrip())  # fmt: skip
            self._stopping.wait(_PAUSE_S)
        self._close()

    def _close(self) -> None:
        if self._sockets:
            self._sockets.close()
        self._sockets = None

    def _stumble(self, why: str) -> None:
        """The kernel cannot be looked into. Questions are answered with "unknown" as long as that lasts."""
        self._close()
        self.trouble = why
        self._sparingly.warning("blind", "cannot see who is connected: %s; trying again", why)
        until = time.monotonic() + _RETRY_S
        while not self._stopping.is_set() and (left_s := until - time.monotonic()) > 0:
            select.select([self._bell], [], [], left_s)
            try:
                self._answer()
            except StoreError:
                self._open.clear()

    def _watch(self) -> None:
        """Look and answer, until an exception or the end."""
        if not self._blind and self._sockets is None:
            self._sockets = Sockets(() if self._enforcer.ports == "all" else self._enforcer.ports)
            self._peers.missed(_now_ms())
            self._look()
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if self._sockets:
            poll.register(self._sockets, select.POLLIN)
        bell = select.poll()
        bell.register(self._bell, select.POLLIN)
        while not self._stopping.is_set():
            self._claim()
            poll.poll((_SOON_S if self._open else 1.0) * 1_000)
            self._note_closed()
            self._answer()
            self._cut()
            bell.poll((_SOON_S if self._open else _PAUSE_S) * 1_000)

    def _claim(self) -> None:
        """Read the host's addresses, now and then; those of the loopback and of one link are no RP's."""
        if time.monotonic() >= self._claim_at:
            own = sorted(each for each in own_addresses() if not each.startswith(("127.", "fe80:")) and each != "::1")
            self.addresses = " ".join(own[:_MOST_ADDRESSES])
            self._claim_at = time.monotonic() + _CLAIM_EVERY_S

    def _note_closed(self) -> None:
        now_ms = _now_ms()
        if self._sockets:
            closed = self._sockets.closed()
            self._peers.note(closed.clients, now_ms)
            if closed.lost:
                self._peers.missed(now_ms)
                self._sparingly.warning("lost", "more connections were closed than the kernel could tell of")
        self._peers.forget_old(now_ms)

    def _cut(self) -> None:
        """After the bell was read: what is added from now on rings it again."""
        began_ms = _now_ms()
        if not self._banned or began_ms < self._cut_at_ms or not self._sockets:
            return
        networks = [self._banned.popleft() for _ in range(len(self._banned))]
        try:
            self._sockets.cut(NetworkSet(networks))
        except FirewallError as error:  # their packets are dropped all the same
            self._sparingly.warning("cut", "cannot end the connections of who is banned: %s", error)
        now_ms = _now_ms()
        self._cut_at_ms = now_ms + _REST * (now_ms - began_ms)

    def _look(self) -> None:
        """Note who is connected now, unless that was done a moment ago."""
        if self._sockets and (began_ms := _now_ms()) >= self._look_at_ms:
            found = self._sockets.open_now()
            now_ms = _now_ms()
            self._looked_ms, self._look_at_ms = began_ms, now_ms + _REST * (now_ms - began_ms)
            self._peers.note(found.clients, now_ms)
            self._listening = found.listening
            self.trouble = "" if found.listening else (
                "nothing listens on enforcer.ports in the enforcer's network namespace; name nginx's own ports there"
            )  # fmt: skip

    def _answer(self) -> None:
        """Answer what can be answered now."""
        with suppress(BlockingIOError):  # nobody has rung
            os.eventfd_read(self._bell)
        while self._waiting and len(self._open) < _BATCH:
            self._open.append(self._waiting.popleft())
        if not self._open:
            return
        answers = self._answers()
        if any(answer is not Answer.SEEN for answer in answers) and self._sockets:
            self._look()
            answers = self._answers()
        now_ms = _now_ms()
        final: list[tuple[_Asked, Answer]] = []
        still: list[_Asked] = []
        for asked, answer in zip(self._open, answers, strict=True):
            sure = now_ms >= asked.at_ms + _CERTAIN_MS and self._looked_ms >= asked.at_ms
            if answer is Answer.UNSEEN and not sure:
                still.append(asked)
            else:
                final.append((asked, answer))
        self._open = still
        self._tell(final, now_ms)

    def _answers(self) -> list[Answer]:
        now_ms = _now_ms()
        found = [self._peers.answer(each.question.network, each.since_ms, now_ms) for each in self._open]
        if self.trouble:
            return [answer if answer is Answer.SEEN else Answer.UNKNOWN for answer in found]
        return found

    def _tell(self, final: list[tuple[_Asked, Answer]], now_ms: int) -> None:
        """Write answers into Redis, and take out old ones."""
        if not final:
            return
        if not self._tidy:
            self._forget_answers()
            self._tidy = True
        commands: list[Command] = [
            ("HSET", self._key, *(word for asked, answer in final for word in (asked.field, answer.value))),
            ("PEXPIRE", self._key, _ANSWER_MS),
        ]
        old = []
        while self._told and self._told[0][0] < now_ms - _ANSWER_MS:
            old.append(self._told.popleft()[1])
        if old:
            commands.append(("HDEL", self._key, *old))
        self._told.extend((now_ms, asked.field) for asked, _ in final)
        self._store.together(commands)

    def _forget_answers(self) -> None:
        """Take out what an earlier run of this enforcer left."""
        if fields := list(self._store.call("HGETALL", self._key)):
            self._store.call("HDEL", self._key, *fields)


def blind(settings: Settings) -> str:
    """Why this enforcer cannot see nginx's clients at all, or ""."""
    if settings.enforcer.chains != ("INPUT",):
        return "enforcer.chains has another chain than INPUT: nginx's connections may end in another network namespace"
    if settings.enforcer.protocol != "tcp":
        return "enforcer.protocol is not tcp: the kernel knows no clients of UDP"
    return ""


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000
