"""The thread that reads the datagram sockets and sorts what arrives. It never speaks to Redis, nor waits for it.

Every datagram gets exactly one outcome of INTAKE in receiver/spool/slots.py; a line that counts goes into the queue
of its importance. The thread also adopts the slots of dead workers and of the standby.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from collections.abc import Callable, Sequence
from hashlib import blake2b
from itertools import takewhile
from socket import socket

from receiver.counting import Counter
from receiver.failures import Failure, pack
from receiver.importance import importance_of
from receiver.lines import Class, Line, Rulebook, message, without_priority
from receiver.spool import Importance, Slot, Spool, sender_address
from shared.addresses import Network, NetworkSet, is_ipv6, parse_network, wider
from shared.errors import AddressError
from shared.exempt import Exemptions
from shared.host import be_ordinary, be_quick
from shared.logs import Sparingly
from shared.probe import Probe
from shared.settings import BUILT_IN, Settings

#: How often the sockets are read although nothing woke us, s: the one worker that the kernel woke may be stuck.
_GLANCE_S = 0.2

#: How often to look for slots of workers that are gone, s; sooner when another process has one with work in it.
_ADOPT_EVERY_S, _ADOPT_SOON_S = 1.0, 0.1

#: Batches read from one socket before the next socket has its turn.
_ROUNDS = 8

#: Most senders remembered: forged ones must not fill the memory.
_SENDERS = 1_024

_log = logging.getLogger("pinban.receiver")


def _no_matter(_: object) -> None:
    """For a sorter whose caller does not note this."""


class Sorter:
    """Turns the datagrams of a receive buffer into outcomes and failures."""

    def __init__(
        self,
        settings: Settings,
        rulebook: Rulebook,
        exempt: Exemptions,
        note: Callable[[Probe], None] = _no_matter,
        note_size: Callable[[int], None] = _no_matter,
    ) -> None:
        """Only the thread that sorts calls `exempt`; `note` is called with each probe, `note_size` with each size of
        a refusal that no setting explains.
        """
        self._note = note
        self._note_size = note_size
        self._rulebook = rulebook
        self._trusted = NetworkSet(settings.receiver.senders)
        self._exempt = exempt
        self._rules = settings.rules
        #: by rule, and whether IPv6: the prefix lengths of its levels, the widest network last
        self._levels = {
            (name, ipv6): tuple(level.length for level in rule.wider(ipv6=ipv6))
            for name, rule in settings.rules.items()
            for ipv6 in (True, False)
        }
        forgives = settings.rooms.forgive_on_join > 0
        #: by whether IPv6: whether it matters who joins
        self._joins_matter = {
            ipv6: settings.rules["pin"].enabled and (forgives or bool(self._levels["pin", ipv6]))
            for ipv6 in (True, False)
        }
        self._senders: dict[bytes, tuple[str, bool]] = {}
        self._sparingly = Sparingly(_log)

    def sort(self, slot: Slot) -> int:
        """Sort and commit all datagrams in the slot's receive buffer; returns how many failures they made."""
        tally: dict[str, int] = {}
        failures: list[list[bytes]] = [[] for _ in Importance]
        for id_, name, data in slot.datagrams():
            outcome, failure = self._outcome(id_, name, data)
            tally[outcome] = tally.get(outcome, 0) + 1
            tally["received"] = tally.get("received", 0) + 1
            if failure is not None:
                failures[importance_of(failure, self._rules)].append(pack(failure))
        slot.commit(tally, *failures)
        return sum(map(len, failures))

    def _outcome(self, id_: str, name: bytes, data: bytes | None) -> tuple[str, Failure | None]:
        sender, trusted = self._senders.get(name) or self._sender(name)
        if not trusted:
            self._sparingly.warning(
                "refused", "refused a datagram of %s; if it is an RP, add it to receiver.senders", sender
            )
            return "refused", None
        if data is not None and self._rulebook.cannot_matter(data):
            return Class.OTHER, None
        line, rule = self._read(data)
        if line.meaning is Class.MALFORMED:
            self._sparingly.warning("malformed", "cannot read a line of %s: %r", sender, (data or b"")[:200])
            return line.meaning, None
        if line.probe is not None:
            self._note(line.probe)
        if line.unknown_size is not None:
            self._note_size(line.unknown_size)
        if line.network is None:
            return line.meaning, None
        joined = rule is None and line.meaning is Class.JOINED and self._joins_matter[is_ipv6(line.network)]
        if rule is None and not joined:
            return line.meaning, None
        levels = self._counted_in(line.network, rule or "pin")
        if levels is None:
            return "ignored", None
        now_ms = time.monotonic_ns() // 1_000_000
        line_id, copy = _id_of(line, rule, data or b"", id_)
        return line.meaning, Failure(
            line.network, rule or "pin", line_id, sender, line.alias or "", now_ms, joined, levels, copy, line.took_ms
        )

    def _counted_in(self, network: Network, rule: str) -> tuple[int, ...] | None:
        """The levels at which a failure counts: those of networks with nobody exempt in them. None: not at all."""
        lengths = self._levels[rule, is_ipv6(network)]
        if lengths and not self._exempt(wider(network, lengths[-1])):  # then nothing in it is: one question in a flood
            return lengths
        if self._exempt(network):
            return None
        return tuple(takewhile(lambda length: not self._exempt(wider(network, length)), lengths[:-1]))

    def _read(self, data: bytes | None) -> tuple[Line, str | None]:
        if data is None:  # it was cut short: no line of ours is so long
            return Line(Class.MALFORMED), None
        reading = self._rulebook.read(data)
        return reading.line, reading.rule

    def _sender(self, name: bytes) -> tuple[str, bool]:
        address = sender_address(name)
        try:
            sender = "local" if address is None else str(parse_network(address))
            known = sender, address is None or self._trusted.overlaps(parse_network(sender))
        except AddressError:  # a sockaddr has no zone id; but no sender may end this thread
            known = str(address), False
        if len(self._senders) >= _SENDERS:
            self._senders.clear()
        self._senders[name] = known
        return known


def _id_of(line: Line, rule: str | None, datagram: bytes, arrival: str) -> tuple[str, str]:
    """The failure's id, and the arrival's name where the id is made from the text.

    Then the n-th line of one text is the same failure as the n-th by way of another receiver, whoever sent it. A
    daemon's line says only in its frame when it was written. Of unknown aliases only different ones count.
    """
    if line.meaning is Class.UNKNOWN_ALIAS and rule in BUILT_IN:
        return _hash((line.alias or "").casefold().encode()), ""
    if line.id:
        return line.id, ""
    return _hash(message(datagram) if rule is None or rule in BUILT_IN else without_priority(datagram)), arrival


def _hash(text: bytes) -> str:
    return blake2b(text, digest_size=8).hexdigest()


class Intake(threading.Thread):
    """Reads the sockets until told to stop; what they still hold then is for the next worker."""

    def __init__(self, sockets: Sequence[socket], spool: Spool, sorter: Sorter, counter: Counter) -> None:
        super().__init__(name="intake", daemon=True)
        self._sockets = sockets
        self._spool = spool
        self._sorter = sorter
        self._counter = counter
        self._stopping = threading.Event()
        self._sparingly = Sparingly(_log)
        self._flooded = False
        self._adopt_at = 0.0
        self.moved_at = time.monotonic()  #: when the loop last came round, s

    def stop(self) -> None:
        """End the loop; returns when the last batch is committed."""
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """Read and sort."""
        be_quick()
        slot = self._claimed()
        if slot is None:
            return
        self._counter.adopt(slot, own=True)
        reading = False
        with select.epoll() as poll:
            for source in self._sockets:
                # Exclusive: a datagram wakes one worker and not all of them (epoll_ctl(2)).
                poll.register(source, select.EPOLLIN | select.EPOLLEXCLUSIVE)
            while not self._stopping.is_set():
                self.moved_at = time.monotonic()
                poll.poll(min(max(self._adopt_at - self.moved_at, 0.0), _GLANCE_S))
                drained = [self._drain(source, slot) for source in self._sockets]
                self._yield_in_a_flood(not all(drained))
                if self.moved_at >= self._adopt_at:
                    self._adopt_at = self.moved_at + self._adopt(slot)
                reading = reading or slot.reading.begin()  # after a first turn: what is new in it takes long
        if reading:
            slot.reading.end()

    def _drain(self, source: socket, slot: Slot) -> bool:
        """Read what a socket has; False when it has more than one turn allows."""
        for _ in range(_ROUNDS):
            try:
                if not slot.receive(source):
                    return True
            except OSError as error:
                self._sparingly.warning("receive", "cannot read %s: %s", source.getsockname(), error)
                return True
            if self._sorter.sort(slot):
                self._counter.more()
        return False

    def _yield_in_a_flood(self, flooded: bool) -> None:
        """Give up real-time priority in a flood, in which this thread never rests: Redis needs a processor too."""
        if flooded != self._flooded:
            self._flooded = flooded
            (be_ordinary if flooded else be_quick)()

    def _adopt(self, own: Slot) -> float:
        """Take over the slot of a dead worker or of the standby that still has work in it; returns when to look again.

        One at a time: a unix socket is full after ten datagrams, and a slot may hold sixty-four.
        """
        found = [slot for slot in self._spool.slots if slot is not own and slot.left_over()]
        for slot in found:
            if self._counter.claim(slot):
                recover(slot, self._sorter)
                _log.info("takes over what another process read: %d failures wait", slot.waiting)
                self._counter.adopt(slot)
                return 0.0
        return _ADOPT_SOON_S if found else _ADOPT_EVERY_S  # the standby will be done with it in a moment

    def _claimed(self) -> Slot | None:
        """A free slot, its receive buffer sorted. Waits while all slots are in use; None when told to stop."""
        while not self._stopping.is_set():
            for slot in self._spool.slots:
                if self._spool.claim(slot):
                    recover(slot, self._sorter)
                    return slot
            self.moved_at = time.monotonic()
            self._stopping.wait(_GLANCE_S)
        return None


def recover(slot: Slot, sorter: Sorter) -> None:
    """Sort the receive buffer that a dead worker left; a batch on which workers die is given up, and counted so."""
    left = sum(1 for _ in slot.datagrams())
    if left and not slot.attempt():
        _log.error("gave up %d datagrams: worker after worker died while it read them", left)
        slot.commit({"received": left, "abandoned": left})
    else:
        sorter.sort(slot)
