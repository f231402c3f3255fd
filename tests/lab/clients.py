"""Clients: single guesses, and a bystander who only joins. All run in a thread of a namespace."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.lab.http1 import Answer, Connection, Header

ALIAS = "meet.alice"
PIN = "1234"


def token_target(alias: str = ALIAS) -> str:
    return f"/api/client/v2/conferences/{alias}/request_token"


def pin_header(pin: str | None) -> list[Header]:
    return [] if pin is None else [("pin", pin)]


def guess(
    address: str, pin: str | None, alias: str = ALIAS, *, timeout: float = 5.0, source: str = ""
) -> Answer | None:
    """One request on its own connection; pin None asks for the prompt. None if no answer came in `timeout` s."""
    try:
        with Connection(address, source=source, timeout=timeout) as connection:
            return connection.ask("POST", token_target(alias), pin_header(pin))
    except OSError:
        return None


@dataclass(frozen=True, slots=True)
class Failure:
    at: float  #: time.monotonic()
    address: str  #: of the reverse proxy
    what: str


@dataclass(slots=True)
class Visits:
    """What happened to a bystander."""

    joins: int = 0
    latencies: list[float] = field(default_factory=list)  #: of each successful join, s
    failures: list[Failure] = field(default_factory=list)


class Bystander:
    """Joins with the right PIN again and again, through one reverse proxy after the other.

    With `prompt` each join first gets the 403 that a browser gets. By default 60 of them in 5 minutes reach the limit
    of the rule for prompts, so keep the interval or turn prompts off (a link with the PIN in it gets none).
    """

    def __init__(
        self, addresses: Sequence[str], *, interval: float = 0.5, prompt: bool = True, timeout: float = 10.0
    ) -> None:
        """Interval and timeout in seconds."""
        self._addresses = addresses
        self._interval = interval
        self._prompt = prompt
        self._timeout = timeout
        self._stopped = threading.Event()
        self.visits = Visits()  #: so far

    def stop(self) -> None:
        """End run() after the current join; from any thread."""
        self._stopped.set()

    def run(self) -> Visits:
        """Join until stop()."""
        visits = self.visits
        while not self._stopped.is_set():
            address = self._addresses[(visits.joins + len(visits.failures)) % len(self._addresses)]
            begun = time.monotonic()
            wrong = self._join(address)
            if wrong:
                visits.failures.append(Failure(begun, address, wrong))
            else:
                visits.joins += 1
                visits.latencies.append(time.monotonic() - begun)
            self._stopped.wait(self._interval)
        return visits

    def _join(self, address: str) -> str:
        """What went wrong, or ""."""
        steps = [(None, 403), (PIN, 200)] if self._prompt else [(PIN, 200)]
        try:
            with Connection(address, timeout=self._timeout) as connection:
                for pin, expected in steps:
                    answer = connection.ask("POST", token_target(), pin_header(pin))
                    if answer is None:
                        return "no answer"
                    if answer.status != expected:
                        return f"{answer.status} instead of {expected}"
        except OSError as error:
            return str(error)
        return ""
