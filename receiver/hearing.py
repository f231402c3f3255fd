"""Bans whose evidence may be forged, until witnesses have said whether their clients were really there.

A ban waits in this worker's memory alone: its failures stay in their window, so the next one makes good for a crash.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from receiver.failures import Counted
from receiver.store import Witnesses
from receiver.testimony import SEEN, Belief, believe
from shared.addresses import Network

#: Longest wait for the witnesses, s. They answer within 0.01 s that a client was there, within 0.3 s that none was.
_PATIENCE_S = 1.0

#: Most bans that wait in a worker; those beyond are decided without witnesses. And most networks that are asked about
#: before they reach a limit.
_MOST, _MOST_EARLY = 10_000, 500

#: How long somebody counts as doubted after the last ban that said so, s; and how long "seen" is remembered, s.
_DOUBT_S, _KNOWN_S = 60.0, 60.0

#: Most questions whose answers are read in one round trip; the shortest pause between two of these, s; and for how many
#: times as long as it took no other follows.
_BATCH, EVERY_S, _REST = 500, 0.005, 2


@dataclass(frozen=True, slots=True)
class Case:
    """A ban that waits."""

    counted: Counted
    broken: str  #: the limit that was reached
    doubted: frozenset[str]  #: the senders of the evidence that are doubted
    strikes: int
    field: str = ""  #: the question, as the witnesses' hashes name it
    asked_s: float = 0.0


class Hearing:
    """The bans of one worker that wait. For one thread. Every method raises StoreError when Redis fails."""

    def __init__(self, witnesses: Witnesses) -> None:
        self._witnesses = witnesses
        self._cases: dict[Network, Case] = {}
        self._early: dict[Network, tuple[str, float]] = {}  #: network -> the question, when it was asked
        self._unasked: set[Network] = set()  #: to be asked about early, in the next turn
        self._known: dict[Network, float] = {}  #: who was seen -> when that was asked, s
        self._doubt_until_s = 0.0
        self._next_s = 0.0

    def __len__(self) -> int:
        return len(self._cases)

    @property
    def open(self) -> bool:
        """Whether there is something to wait for."""
        return bool(self._cases or self._early or self._unasked)

    def waits(self, network: Network) -> bool:
        """Whether a ban of the network waits already."""
        return network in self._cases

    def expect(self, network: Network) -> None:
        """The network has failed, and may reach a limit soon. While somebody is doubted ask now, so that a guesser
        gains nothing from the time that an answer takes.
        """
        now = time.monotonic()
        if now > self._doubt_until_s or len(self._early) + len(self._unasked) >= _MOST_EARLY:
            return
        if network not in self._early and not self._knows(network, now):
            self._unasked.add(network)

    def begin(self, case: Case, age_ms: int) -> Belief | None:
        """Ask the witnesses about a ban whose first failure is so old. Returns what to believe, if it is known now."""
        now = time.monotonic()
        self._doubt_until_s = now + _DOUBT_S
        network = case.counted.network
        if self._knows(network, now) and now - self._known[network] <= age_ms / 1_000:
            return Belief.REAL
        if len(self._cases) >= _MOST:
            return Belief.UNKNOWN
        id_ = secrets.token_hex(8)
        self._witnesses.ask([(network, age_ms, id_)])
        self._cases[network] = Case(
            case.counted, case.broken, case.doubted, case.strikes, f"{network} {id_}", time.monotonic()
        )
        return None

    def decided(self) -> list[tuple[Case, Belief]]:
        """The bans that can be decided now; call `end` for each when that is done."""
        now = time.monotonic()
        self._ask_early(now)
        if now < self._next_s or not (self._cases or self._early):
            return []
        cases = list(self._cases.values())[:_BATCH]
        early = list(self._early.items())[:_BATCH]
        answers = self._witnesses.answers([*(case.field for case in cases), *(field for _, (field, _) in early)])
        rps = self._witnesses.rps()
        for (network, (_, asked_s)), said in zip(early, answers[len(cases) :], strict=True):
            if SEEN in said.values():
                self._remember(network, asked_s)
            if SEEN in said.values() or now > asked_s + _PATIENCE_S:
                del self._early[network]
        found = []
        for case, said in zip(cases, answers, strict=False):
            belief = believe(case.doubted, rps, said, waited=now > case.asked_s + _PATIENCE_S)
            if belief is Belief.REAL:
                self._remember(case.counted.network, case.asked_s)
            if belief is not None:
                found.append((case, belief))
        took = time.monotonic() - now
        self._next_s = time.monotonic() + max(EVERY_S, _REST * took)
        return found

    def end(self, network: Network) -> None:
        """The ban of this network is decided."""
        self._cases.pop(network, None)

    def _ask_early(self, now: float) -> None:
        if not self._unasked:
            return
        networks, self._unasked = self._unasked, set()
        asked = [(network, 0, secrets.token_hex(8)) for network in networks]
        self._witnesses.ask(asked)
        self._early |= {network: (f"{network} {id_}", now) for network, _, id_ in asked}

    def _knows(self, network: Network, now: float) -> bool:
        return now <= self._known.get(network, -_KNOWN_S) + _KNOWN_S

    def _remember(self, network: Network, asked_s: float) -> None:
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        self._known[network] = asked_s
