"""What travels on the channel: a few events, msgpack arrays whose first element is the tag with its version.

Pure: bytes in, values out. The scripts that change the ledger write the same arrays (shared/ledger/*.lua).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgpack

from shared.addresses import Network, parse_network
from shared.errors import AddressError, DecodeError

#: Longer bytes are no event of ours; the longest, a hot room with a name of 64 letters of four bytes, has about 300.
LONGEST_EVENT = 512

#: Ten years: what "for ever" means for a ban, ms.
LONGEST_BAN_MS = 10 * 365 * 86_400_000

#: Of a question: as secrets.token_hex(8) makes it.
_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stamp:
    """Which change of which ledger: revisions count up by one, and mean something within their epoch only."""

    epoch: str
    rev: int


@dataclass(frozen=True, slots=True)
class Ban:
    """Drop this network for this long, counted from the moment of reading.

    A length and not an end, because two hosts' clocks may differ.
    """

    stamp: Stamp  #: epoch and revision of the ledger that this change made
    network: Network
    ttl_ms: int
    rule: str  #: the rule it broke, for the people who will ask why


@dataclass(frozen=True, slots=True)
class Unban:
    """Drop this network no longer."""

    stamp: Stamp
    network: Network


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The ledger is alive and at this revision; an enforcer at an older one has missed something."""

    stamp: Stamp
    time_ms: int  #: Redis TIME


@dataclass(frozen=True, slots=True)
class Allow:
    """The allow-list changed: read it."""

    stamp: Stamp


@dataclass(frozen=True, slots=True)
class Hot:
    """A room is under attack from many networks. No change of the bans, so the revision is that of the last change."""

    stamp: Stamp
    room: str
    for_ms: int


@dataclass(frozen=True, slots=True)
class Question:
    """Receivers ask what the kernels know: had an address of the network a connection to an RP's ports? No change of
    the bans, as with `Hot`. enforcer/witness answers.
    """

    stamp: Stamp
    network: Network
    age_ms: int  #: how long ago the first failure that is in question was
    id: str  #: names this question; the answer repeats it


Event = Ban | Unban | Heartbeat | Allow | Hot | Question


def encode(event: Event) -> bytes:
    """The bytes of an event, as the Lua scripts publish them."""
    stamp = event.stamp
    match event:
        case Ban():
            fields = ["ban/1", stamp.epoch, stamp.rev, event.network, event.ttl_ms, event.rule]
        case Unban():
            fields = ["unban/1", stamp.epoch, stamp.rev, event.network]
        case Heartbeat():
            fields = ["heartbeat/1", stamp.epoch, stamp.rev, event.time_ms]
        case Allow():
            fields = ["allow/1", stamp.epoch, stamp.rev]
        case Hot():
            fields = ["hot/1", stamp.epoch, stamp.rev, event.room, event.for_ms]
        case Question():
            fields = ["question/1", stamp.epoch, stamp.rev, event.network, event.age_ms, event.id]
    packed: bytes = msgpack.packb(fields)
    return packed


def decode(data: bytes) -> Event:
    """The inverse of encode; DecodeError for anything encode could not have written."""
    if len(data) > LONGEST_EVENT:
        raise DecodeError(f"{len(data)} bytes are no event of ours")
    try:
        # An array of six short elements and nothing else: no map, no extension type, no nesting to exhaust us with.
        fields = msgpack.unpackb(data, max_array_len=6, max_map_len=0, max_ext_len=0, max_bin_len=0, max_str_len=256)
        match fields:
            case ["ban/1", str(epoch), int(rev), str(network), int(ttl_ms), str(rule)] if (
                _stamped(epoch, rev) and type(ttl_ms) is int and 0 < ttl_ms <= LONGEST_BAN_MS and rule.isprintable()
            ):
                return Ban(Stamp(epoch, rev), _canonical(network), ttl_ms, rule)
            case ["unban/1", str(epoch), int(rev), str(network)] if _stamped(epoch, rev):
                return Unban(Stamp(epoch, rev), _canonical(network))
            case ["heartbeat/1", str(epoch), int(rev), int(time_ms)] if (
                epoch and type(rev) is int and rev >= 0 and type(time_ms) is int and time_ms >= 0
            ):
                return Heartbeat(Stamp(epoch, rev), time_ms)
            case ["allow/1", str(epoch), int(rev)] if _stamped(epoch, rev):
                return Allow(Stamp(epoch, rev))
            case ["hot/1", str(epoch), int(rev), str(room), int(for_ms)] if (
                epoch and type(rev) is int and rev >= 0 and type(for_ms) is int and 0 < for_ms <= LONGEST_BAN_MS
            ):
                return Hot(Stamp(epoch, rev), room, for_ms)
            case ["question/1", str(epoch), int(rev), str(network), int(age_ms), str(id_)] if (
                epoch
                and type(rev) is int
                and rev >= 0
                and type(age_ms) is int
                and 0 <= age_ms <= LONGEST_BAN_MS
                and _ID.fullmatch(id_)
            ):
                return Question(Stamp(epoch, rev), _canonical(network), age_ms, id_)
    except AddressError as error:
        raise DecodeError(str(error)) from error
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DecodeError(f"not msgpack: {data[:64]!r}") from error
    raise DecodeError(f"not an event we know: {data[:64]!r}")


def _stamped(epoch: str, rev: int) -> bool:
    return bool(epoch) and type(rev) is int and rev > 0  # a bool is an int to `case int()`


def _canonical(text: str) -> Network:
    network = parse_network(text)
    if network != text:
        raise DecodeError(f"{text[:64]!r} is not written as {network}")
    return network
