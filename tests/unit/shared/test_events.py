"""The bytes on the channel: what encode writes, what released versions wrote, and what nobody wrote."""

from __future__ import annotations

import ast
import ipaddress
import re
from contextlib import suppress
from typing import get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.addresses import Network, parse_network
from shared.errors import DecodeError
from shared.events import (
    LONGEST_BAN_MS,
    LONGEST_EVENT,
    Allow,
    Ban,
    Event,
    Heartbeat,
    Hot,
    Question,
    Stamp,
    Unban,
    decode,
    encode,
)
from tests.lab.process import ROOT

UPGRADE = ROOT / "tests" / "upgrade"

EPOCH = "0123456789abcdef"

#: What the files in tests/upgrade/ say.
RELEASED: dict[str, Event] = {
    "ban1": Ban(Stamp(EPOCH, 7), Network("203.0.113.7"), 300_000, "pin"),
    "ban1-ipv6": Ban(Stamp(EPOCH, 2**40), Network("2001:db8:1:2::/64"), LONGEST_BAN_MS, "manual"),
    "unban1": Unban(Stamp(EPOCH, 8), Network("203.0.113.7")),
    "heartbeat1": Heartbeat(Stamp(EPOCH, 8), 1_795_356_738_348),
    "heartbeat1-new-ledger": Heartbeat(Stamp(EPOCH, 0), 1_795_356_738_348),
    "allow1": Allow(Stamp(EPOCH, 9)),
    "hot1": Hot(Stamp(EPOCH, 8), "meet.alice", 600_000),
    "hot1-longest": Hot(Stamp(EPOCH, 2**40), "\N{MATHEMATICAL DOUBLE-STRUCK CAPITAL A}" * 64, LONGEST_BAN_MS),
    "question1": Question(Stamp(EPOCH, 8), Network("203.0.113.7"), 1_500, "00ff00ff00ff00ff"),
    "question1-ipv6": Question(Stamp(EPOCH, 2**40), Network("2001:db8:1::/48"), LONGEST_BAN_MS, EPOCH),
}

networks = st.builds(
    lambda number, six: parse_network(
        str(ipaddress.ip_network((number, 64), strict=False) if six else ipaddress.IPv4Address(number % 2**32))
    ),
    st.integers(2**100, 2**128 - 1),
    st.booleans(),
)
epochs = st.text("0123456789abcdef", min_size=1, max_size=16)
stamps = st.builds(Stamp, epochs, st.integers(1, 2**63))
events = (
    st.builds(Ban, stamps, networks, st.integers(1, LONGEST_BAN_MS), st.text("abcdefghijk_", max_size=20))
    | st.builds(Unban, stamps, networks)
    | st.builds(Heartbeat, st.builds(Stamp, epochs, st.integers(0, 2**63)), st.integers(0, 2**63))
    | st.builds(Allow, stamps)
    | st.builds(
        Hot,
        st.builds(Stamp, epochs, st.integers(0, 2**63)),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=64),
        st.integers(1, LONGEST_BAN_MS),
    )
    | st.builds(
        Question,
        st.builds(Stamp, epochs, st.integers(0, 2**63)),
        networks,
        st.integers(0, LONGEST_BAN_MS),
        st.text("0123456789abcdef", min_size=16, max_size=16),
    )
)

#: Anything that msgpack can say, nested too.
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.binary(max_size=9) | st.text(),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


@given(events)
def test_what_is_encoded_decodes_to_itself_and_is_short(event: Event) -> None:
    data = encode(event)
    assert len(data) <= LONGEST_EVENT
    assert decode(data) == event


@pytest.mark.parametrize("name", RELEASED)
def test_bytes_of_released_versions_decode_and_are_still_what_we_write(name: str) -> None:
    data = bytes.fromhex((UPGRADE / f"{name}.hex").read_text(encoding="ascii"))
    assert decode(data) == RELEASED[name]
    assert encode(RELEASED[name]) == data


def test_every_file_of_a_released_version_is_known() -> None:
    assert {path.stem for path in UPGRADE.glob("*.hex")} == RELEASED.keys()


def test_every_tag_that_we_know_has_bytes_of_a_released_version() -> None:
    """A tag with a new version gets a file of its own, and the file of the old one stays."""
    source = ast.parse((ROOT / "shared" / "events.py").read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(source) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    known = {text for text in texts if re.fullmatch(r"[a-z]+/[0-9]+", text)}
    kept = {msgpack.unpackb(bytes.fromhex(path.read_text(encoding="ascii")))[0] for path in UPGRADE.glob("*.hex")}
    assert len(known) >= len(get_args(Event))
    assert known == kept


@given(st.binary(max_size=LONGEST_EVENT + 50))
def test_bytes_are_an_event_or_a_decode_error(data: bytes) -> None:
    with suppress(DecodeError):
        event = decode(data)
        assert decode(encode(event)) == event


@given(anything)
def test_values_are_an_event_or_a_decode_error(value: object) -> None:
    with suppress(DecodeError):
        decode(msgpack.packb(value))


@given(events, st.data())
def test_a_damaged_event_is_an_event_or_a_decode_error(event: Event, data: st.DataObject) -> None:
    damaged = bytearray(encode(event))
    at = data.draw(st.integers(0, len(damaged) - 1))
    damaged[at] = data.draw(st.integers(0, 255))
    with suppress(DecodeError):
        decode(bytes(damaged))


@given(events, st.data())
def test_an_event_cut_short_or_with_bytes_behind_it_is_none(event: Event, data: st.DataObject) -> None:
    whole = encode(event)
    for bad in (whole[: data.draw(st.integers(0, len(whole) - 1))], whole + data.draw(st.binary(min_size=1))):
        with pytest.raises(DecodeError):
            decode(bad)


@pytest.mark.parametrize(
    "bomb",
    [
        b"\x91" * LONGEST_EVENT,
        b"\x96" * LONGEST_EVENT,
        b"\x81" * LONGEST_EVENT,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\xc7\x00\xff",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xc1",
        b"",
    ],
    ids=lambda bomb: bomb[:6].hex() or "nothing",
)
def test_a_bomb_does_not_go_off(bomb: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(bomb)


BAN = ["ban/1", EPOCH, 7, "203.0.113.7", 300_000, "pin"]
UNBAN = ["unban/1", EPOCH, 7, "203.0.113.7"]
HEARTBEAT = ["heartbeat/1", EPOCH, 7, 1_795_356_738_348]
ALLOW = ["allow/1", EPOCH, 7]
HOT = ["hot/1", EPOCH, 7, "meet.alice", 600_000]


def but(fields: list[object], index: int, value: object) -> list[object]:
    return [*fields[:index], value, *fields[index + 1 :]]


@pytest.mark.parametrize(
    "fields",
    [
        but(BAN, 0, "ban/2"),
        but(BAN, 0, b"ban/1"),
        but(BAN, 1, ""),
        but(BAN, 1, 7),
        but(BAN, 2, True),
        but(BAN, 2, 0),
        but(BAN, 2, -1),
        but(BAN, 2, 7.0),
        but(BAN, 2, "7"),
        but(BAN, 3, "203.0.113.007"),
        but(BAN, 3, "203.0.113.7/32"),
        but(BAN, 3, "203.0.113.7/24"),
        but(BAN, 3, "2001:DB8:1:2::/64"),
        but(BAN, 3, "::ffff:203.0.113.7"),
        but(BAN, 3, "fe80::1%eth0"),
        but(BAN, 3, "localhost"),
        but(BAN, 3, ""),
        but(BAN, 3, None),
        but(BAN, 4, True),
        but(BAN, 4, 0),
        but(BAN, 4, -1),
        but(BAN, 4, LONGEST_BAN_MS + 1),
        but(BAN, 4, 300_000.0),
        but(BAN, 5, None),
        but(BAN, 5, "x" * 300),
        but(BAN, 5, "pin\n"),
        but(BAN, 5, "\x1b[2J"),
        but(UNBAN, 2, 0),
        but(UNBAN, 2, True),
        but(UNBAN, 3, "203.0.113.7/32"),
        but(HEARTBEAT, 1, ""),
        but(HEARTBEAT, 2, -1),
        but(HEARTBEAT, 2, False),
        but(HEARTBEAT, 3, -1),
        but(HEARTBEAT, 3, True),
        BAN[:-1],
        [*BAN, 1],
        UNBAN[:-1],
        [*UNBAN, 1],
        but(ALLOW, 1, ""),
        but(ALLOW, 2, 0),
        but(ALLOW, 2, True),
        but(HOT, 1, ""),
        but(HOT, 2, -1),
        but(HOT, 2, False),
        but(HOT, 3, None),
        but(HOT, 3, "x" * 300),
        but(HOT, 4, 0),
        but(HOT, 4, True),
        but(HOT, 4, LONGEST_BAN_MS + 1),
        ALLOW[:-1],
        [*ALLOW, 1],
        HOT[:-1],
        [*HOT, 1],
        HEARTBEAT[:-1],
        [*HEARTBEAT, 1],
        [],
        "ban/1",
        {"ban/1": 1},
    ],
    ids=repr,
)
def test_what_encode_could_not_have_written_is_no_event(fields: object) -> None:
    with pytest.raises(DecodeError):
        decode(msgpack.packb(fields))


def test_an_event_that_is_too_long_is_refused_unread() -> None:
    with pytest.raises(DecodeError, match="513 bytes"):
        decode(bytes(LONGEST_EVENT + 1))
