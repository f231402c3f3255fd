"""What counts how: the rules, the rooms, and their defaults. Values only; what they do is in receiver.

The descriptions serve as in shared/settings/schema.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from msgspec import Meta, Struct, convert

from shared.durations import Milliseconds, parse_duration

Duration = Milliseconds

_Length = 'a length of time from {} to {}, as "5m" or in seconds'

_Patterns = Annotated[str, Meta(max_length=65_536, description="regular expressions of fail2ban, one a line")]


class Rule(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How many failures in which time are a ban, and for how long. The words are fail2ban's where it has them."""

    enabled: Annotated[bool, Meta(description="true or false: whether the rule counts at all")] = True
    simulate: Annotated[bool, Meta(description="true or false: whether everything happens but the ban")] = False
    maxretry: Annotated[int, Meta(ge=1, le=1_000, description="a number of failures from 1 to 1000")] = 5
    findtime: Annotated[Duration, Meta(description=_Length.format("1s", "30d"))] = Milliseconds(300_000)
    bantime: Annotated[Duration, Meta(description=_Length.format("2s", "3650d"))] = Milliseconds(300_000)
    long_maxretry: Annotated[
        int, Meta(ge=0, le=1_000, description="a number of failures up to 1000 in long_findtime; 0 is no second window")
    ] = 0
    long_findtime: Annotated[Duration, Meta(description=_Length.format("1s", "30d"))] = Milliseconds(86_400_000)
    bantime_increment: Annotated[
        bool, Meta(description="true or false: whether each ban of an address doubles the time of the next")
    ] = False
    bantime_factor: Annotated[
        float, Meta(ge=0.01, le=1_000, description="a number from 0.01 to 1000 that growing bans are multiplied by")
    ] = 1.0
    bantime_maxtime: Annotated[Duration, Meta(description=_Length.format("2s", "3650d"))] = Milliseconds(604_800_000)
    bantime_jitter: Annotated[Duration, Meta(description=_Length.format("0s", "30d"))] = Milliseconds(0)
    strikes_kept: Annotated[Duration, Meta(description=_Length.format("0s", "3650d"))] = Milliseconds(604_800_000)
    failregex: _Patterns = ""
    ignoreregex: _Patterns = ""
    prefregex: _Patterns = ""

    def __post_init__(self) -> None:
        day_ms = 86_400_000
        for name, low_ms, high_ms in (
            ("findtime", 1_000, 30 * day_ms),
            ("long_findtime", 1_000, 30 * day_ms),
            ("bantime", 2_000, 3_650 * day_ms),
            ("bantime_maxtime", 2_000, 3_650 * day_ms),
            ("bantime_jitter", 0, 30 * day_ms),
            ("strikes_kept", 0, 3_650 * day_ms),
        ):
            if not low_ms <= getattr(self, name) <= high_ms:
                raise ValueError(name)

    def windows(self, name: str) -> Iterator[Window]:
        """The windows that a failure under the rule of this name is counted in."""
        yield Window(name, self.maxretry, int(self.findtime))
        if self.long_maxretry:
            yield Window(f"{name}{LONG}", self.long_maxretry, int(self.long_findtime))


#: What the name of a rule's second window ends in.
LONG = ".long"


@dataclass(frozen=True, slots=True)
class Window:
    """So many failures in so much time are a ban."""

    name: str  #: of the rule, with LONG after it for the second one
    maxretry: int
    findtime_ms: int


#: The rules that are always there, with what differs from Rule's own defaults.
BUILT_IN: Mapping[str, Mapping[str, Any]] = {
    "pin": {},
    "prompt": {"maxretry": 60, "simulate": True},
    "scan": {"maxretry": 10, "findtime": "10m", "bantime": "10m"},
    "registration": {},
}


def built_in_rules() -> dict[str, Rule]:
    """The rules of a deployment that sets none."""
    return {name: convert(dict(facts), Rule, dec_hook=decode_hook) for name, facts in BUILT_IN.items()}


def decode_hook(kind: type, value: object) -> object:
    """What msgspec cannot convert by itself (its dec_hook)."""
    if kind is Milliseconds:
        return parse_duration(value)
    raise NotImplementedError(kind)


class Rooms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a conference counts as attacked, and what then happens."""

    failures: Annotated[
        int,
        Meta(ge=0, le=1_000, description="a number of wrong PINs that make a room hot, up to 1000; 0 is never"),
    ] = 15
    addresses: Annotated[
        int, Meta(ge=1, le=100_000, description="a number of distinct addresses they must come from, from 1 to 100000")
    ] = 10
    window: Annotated[Duration, Meta(description=_Length.format("1s", "30d"))] = Milliseconds(600_000)
    hot_for: Annotated[Duration, Meta(description=_Length.format("1s", "30d"))] = Milliseconds(600_000)
    hot_maxretry: Annotated[
        int, Meta(ge=1, le=1_000, description="a number of wrong PINs on a hot room that are a ban, from 1 to 1000")
    ] = 2
    most: Annotated[
        int, Meta(ge=1, le=1_000_000, description="a number of rooms watched at a time, from 1 to 1000000")
    ] = 10_000
    forgive_on_join: Annotated[
        int,
        Meta(ge=0, le=100, description="a number of wrong PINs that a right one on the room takes back; 0 is none"),
    ] = 0

    def __post_init__(self) -> None:
        for name in ("window", "hot_for"):
            if not 1_000 <= getattr(self, name) <= 30 * 86_400_000:
                raise ValueError(name)
