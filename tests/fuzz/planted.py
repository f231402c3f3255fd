"""Faults put around parts of pinban as if pinban had them; fuzzing must find each, which proves that it works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from receiver.lines.classify import Class, Line
from receiver.lines.rulebook import Reading, Rulebook
from shared.addresses import Network
from shared.errors import AddressError
from shared.events import Event, decode
from tests.fuzz.datagram import Target as DatagramTarget
from tests.fuzz.events import Target as EventsTarget
from tests.fuzz.texts import SettingsTarget


class _Misreads(Rulebook):
    """Takes the room for the address when it looks like one."""

    def read(self, datagram: bytes) -> Reading:
        reading = super().read(datagram)
        if reading.rule and reading.line.alias and not reading.line.alias.startswith("meet"):
            return Reading(Line(reading.line.meaning, Network("192.0.2.1"), reading.line.alias), reading.rule)
        return reading


class _Overcounts(Rulebook):
    """Takes a prompt for a guess."""

    def read(self, datagram: bytes) -> Reading:
        reading = super().read(datagram)
        if reading.line.meaning is Class.PIN_PROMPT:
            return Reading(Line(Class.WRONG_PIN, reading.line.network, reading.line.alias), "pin")
        return reading


def _fragile(data: bytes) -> Event:
    if data[:1] == b"\x96" and data[-1:] == b"\xff":
        raise IndexError(len(data))
    return decode(data)


def _forgetful(network: Network) -> str:
    return ""


def _raw(*arguments: Any) -> Any:
    raise AddressError("two\nlines")


#: Target and fault -> what makes the target with the fault in it.
PLANTED: dict[tuple[str, str], Callable[[], Any]] = {
    ("datagram", "misreads"): lambda: DatagramTarget(_Misreads),
    ("datagram", "overcounts"): lambda: DatagramTarget(_Overcounts),
    ("events", "raises"): lambda: EventsTarget(_fragile),
    ("events", "exempts-nobody"): lambda: EventsTarget(asked=_forgetful),
    ("settings", "raises"): lambda: SettingsTarget(_raw),
}
