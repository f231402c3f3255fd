"""Every datagram ends in one outcome; only a wrong PIN of a counted address goes on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any, cast

import msgspec
import pytest

from receiver.failures import Failure, unpack
from receiver.intake import _SENDERS, Sorter
from receiver.lines.classify import Class, Line
from receiver.lines.rulebook import Reading, Rulebook
from receiver.spool.slots import INTAKE, Slot, Spool
from shared.addresses import Network
from shared.exempt.exemptions import Exemptions
from shared.probe import Probe
from shared.settings.schema import Rule, Settings
from tests.parts import sorter_of

DEFAULTS = msgspec.structs.replace(Settings(), ignoreself=False)


def line(**changed: str) -> bytes:
    fields: dict[str, Any] = {"v": 1, "id": "i", "ip": "203.0.113.7", "m": "POST", "k": "conference", "a": "Meet.Alice"}
    fields |= {"s": "403", "us": "403", "l": "45", "p": "1"} | changed
    return msgspec.json.encode(fields)


@pytest.fixture
def inlet() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inlet:
        inlet.bind(("127.0.0.1", 0))
        yield inlet


def outcomes(inlet: socket.socket, settings: Settings, *datagrams: bytes) -> tuple[dict[str, int], Slot]:
    """What became of the datagrams, without what did not happen."""
    slot = Spool(1).slots[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
        for datagram in datagrams:
            outlet.sendto(datagram, inlet.getsockname())
    assert slot.receive(inlet) == len(datagrams)
    sorter_of(settings).sort(slot)
    tally = {name: value for name, value in slot.intake.read().items() if value and name in INTAKE and name != "batch"}
    assert tally.pop("received") == sum(tally.values()) == len(datagrams)
    return tally, slot


def test_each_class_is_counted_under_its_name(inlet: socket.socket) -> None:
    tally, slot = outcomes(
        inlet,
        DEFAULTS,
        line(),
        line(p="0", l="73"),
        line(l="1893"),
        line(s="404", us="404"),
        line(k="registration", c="1"),
        line(s="200", us="200"),
        line(m="other"),
        line(k="probe", ip="127.0.0.1", a="rp1/0123abcd/1/0"),
        b"garbage",
        b"",
    )
    assert tally == {
        "probe": 1, "wrong_pin": 1, "pin_prompt": 1, "refused_otherwise": 1, "unknown_alias": 1, "registration": 1,
        "joined": 1, "other": 1, "malformed": 2,
    }  # fmt: skip
    assert slot.waiting == 4


def test_a_failure_says_who_where_and_by_way_of_whom(inlet: socket.socket) -> None:
    _, slot = outcomes(inlet, DEFAULTS, line())
    [record] = slot.oldest(9)[1]
    failure = unpack(record)
    assert (failure.network, failure.rule, failure.id) == ("203.0.113.7", "pin", "i")
    assert (failure.rp, failure.alias) == ("127.0.0.1", "meet.alice")


def test_a_stranger_is_refused_unread(inlet: socket.socket) -> None:
    receiver = msgspec.structs.replace(DEFAULTS.receiver, senders=("198.51.100.0/24",))
    tally, slot = outcomes(inlet, msgspec.structs.replace(DEFAULTS, receiver=receiver), line(), b"garbage")
    assert tally == {"refused": 2}
    assert slot.waiting == 0


@pytest.mark.parametrize("address", ["198.51.100.9", "::ffff:198.51.100.9", "2001:db8:1:2:3::9"])
def test_an_address_of_ignoreip_is_never_counted(inlet: socket.socket, address: str) -> None:
    settings = msgspec.structs.replace(DEFAULTS, ignoreip=("198.51.100.0/24", "2001:db8:1:2::1"))
    tally, slot = outcomes(inlet, settings, line(ip=address))
    assert (tally, slot.waiting) == ({"ignored": 1}, 0)


def test_forged_senders_do_not_fill_the_memory() -> None:
    """Each is refused; so many are remembered that a real site's are all known."""
    receiver = msgspec.structs.replace(DEFAULTS.receiver, senders=("127.99.0.0/24",))
    sorter, slot, senders = sorter_of(msgspec.structs.replace(DEFAULTS, receiver=receiver)), Spool(1).slots[0], set()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inlet:
        inlet.bind(("127.0.0.1", 0))
        for n in range(5_000):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
                outlet.bind((f"127.98.{n >> 8}.{n & 255}", 0))
                outlet.sendto(line(), inlet.getsockname())
            if n % 20 == 19:
                assert slot.receive(inlet) == 20
                sorter.sort(slot)
                senders.add(len(sorter._senders))
    assert slot.intake.get("refused") == 5_000
    assert 500 < max(senders) <= 1_024


def test_an_address_of_this_host_is_never_counted(inlet: socket.socket) -> None:
    settings = msgspec.structs.replace(Settings(), ignoreip=())
    tally, _ = outcomes(inlet, settings, line(ip="127.0.0.1"))
    assert tally == {"ignored": 1}
    tally, _ = outcomes(inlet, msgspec.structs.replace(settings, ignoreself=False), line(ip="127.0.0.1"))
    assert tally == {"wrong_pin": 1}


def test_a_probe_is_told_of_when_a_trusted_sender_brought_it_and_counts_for_nobody(inlet: socket.socket) -> None:
    probe = line(k="probe", ip="127.0.0.1", a="rp1/0123abcd/7/9")
    counting_all = {"all": Rule(failregex='"ip":"<HOST>"')}
    rules = msgspec.structs.replace(DEFAULTS, ignoreip=(), rules={**DEFAULTS.rules, **counting_all})
    strangers = msgspec.structs.replace(rules.receiver, senders=("198.51.100.0/24",))
    for settings, outcome, expected in (
        (rules, "probe", [Probe("rp1", "0123abcd", 7, 9)]),
        (msgspec.structs.replace(rules, receiver=strangers), "refused", []),
    ):
        told: list[Probe] = []
        slot = Spool(1).slots[0]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
            outlet.sendto(probe, inlet.getsockname())
        assert slot.receive(inlet) == 1
        Sorter(settings, Rulebook(settings), Exemptions(settings), told.append).sort(slot)
        assert slot.intake.get(outcome) == 1
        assert (told, slot.waiting) == (expected, 0)


def test_many_senders_are_told_apart_in_bounded_memory(inlet: socket.socket) -> None:
    """Whoever forges datagrams forges their senders too."""
    sorter, slot = sorter_of(DEFAULTS), Spool(1).slots[0]
    for number in range(5_000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as outlet:
            outlet.bind((f"127.77.{number >> 8}.{number & 255}", 0))
            outlet.sendto(line(id=str(number)), inlet.getsockname())
        if number % 50 == 49:
            assert slot.receive(inlet) == 50
            assert sorter.sort(slot) == 50
            assert 0 < len(sorter._senders) <= _SENDERS
    senders = {unpack(record).rp for record in slot.oldest(5_000)[1]}
    assert senders == {f"127.77.{number >> 8}.{number & 255}" for number in range(5_000)}


def test_a_probe_through_the_unix_socket_is_told_of_too() -> None:
    told: list[Probe] = []
    slot = Spool(1).slots[0]
    outlet, inlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with outlet, inlet:
        outlet.send(line(k="probe", ip="127.0.0.1", a="rp1/0123abcd/7/9"))
        assert slot.receive(inlet) == 1
    Sorter(DEFAULTS, Rulebook(DEFAULTS), Exemptions(DEFAULTS), told.append).sort(slot)
    assert told == [Probe("rp1", "0123abcd", 7, 9)]


def test_a_size_that_no_setting_explains_is_told_of_when_a_trusted_sender_brought_it() -> None:
    told: list[int] = []

    class Reads:
        """As a rulebook whose classifier met an unknown size."""

        def cannot_matter(self, _: bytes) -> bool:
            return False

        def read(self, data: bytes) -> Reading:
            return Reading(Line(Class.WRONG_PIN, Network("203.0.113.7"), "meet", "i", unknown_size=len(data)), "pin")

    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    slot = Spool(1).slots[0]
    with here, there:
        there.send(b"x" * 61)
        assert slot.receive(here) == 1
    Sorter(DEFAULTS, cast("Rulebook", Reads()), Exemptions(DEFAULTS), note_size=told.append).sort(slot)
    assert told == [61]
    assert slot.waiting == 1, "it counts as before"


def sorted_failures(inlet: socket.socket, settings: Settings, *datagrams: bytes) -> list[Failure]:
    _, slot = outcomes(inlet, settings, *datagrams)
    return [unpack(record) for record in slot.oldest(len(datagrams))[1]]


@pytest.mark.parametrize(
    ("ignored", "levels"),
    [
        ("2001:db8:2::/48", (56, 48)),
        ("2001:db8:1:2::1", None),
        ("2001:db8:1:3::1", ()),
        ("2001:db8:1:ff::/64", ()),
        ("2001:db8:1:100::1", (56,)),
        ("2001:db8::/32", None),
    ],
)
def test_a_failure_counts_in_wider_networks_with_nobody_exempt_in_them(
    inlet: socket.socket, ignored: str, levels: tuple[int, ...] | None
) -> None:
    found = sorted_failures(inlet, msgspec.structs.replace(DEFAULTS, ignoreip=(ignored,)), line(ip="2001:db8:1:2::9"))
    assert [failure.levels for failure in found] == ([] if levels is None else [levels])


def test_ipv4_counts_in_no_wider_network_and_asks_once_whether_it_is_exempt() -> None:
    asked: list[str] = []

    class Noted(Exemptions):
        def __call__(self, network: Network) -> str:
            asked.append(network)
            return super().__call__(network)

    sorter = Sorter(DEFAULTS, Rulebook(DEFAULTS), Noted(DEFAULTS))
    assert sorter._counted_in(Network("203.0.113.7"), "pin") == ()
    assert sorter._counted_in(Network("2001:db8:1:2::/64"), "pin") == (56, 48)
    assert asked == ["203.0.113.7", "2001:db8:1::/48"], "who is exempt in the widest network is asked first"


@pytest.mark.parametrize(
    ("address", "pin", "forgive", "queued"),
    [
        ("203.0.113.7", {}, 0, False),
        ("203.0.113.7", {}, 1, True),
        ("203.0.113.7", {"levels": ("ipv4/24=25",)}, 0, True),
        ("2001:db8:1:2::9", {}, 0, True),
        ("2001:db8:1:2::9", {"levels": ()}, 0, False),
        ("2001:db8:1:2::9", {"enabled": False}, 1, False),
    ],
)
def test_a_join_goes_on_only_where_it_matters(
    inlet: socket.socket, address: str, pin: dict[str, Any], forgive: int, queued: bool
) -> None:
    rules = DEFAULTS.rules | {"pin": msgspec.structs.replace(DEFAULTS.rules["pin"], **pin)}
    rooms = msgspec.structs.replace(DEFAULTS.rooms, forgive_on_join=forgive)
    settings = msgspec.structs.replace(DEFAULTS, rules=rules, rooms=rooms)
    found = sorted_failures(inlet, settings, line(ip=address, s="200", us="200"))
    assert [failure.joined for failure in found] == [True] * queued


def test_unknown_aliases_that_are_the_same_are_the_same_failure(inlet: socket.socket) -> None:
    dead = [line(s="404", us="404", a=alias, id=str(n)) for n, alias in enumerate(["Gone", "gone ", "GONE", "other"])]
    found = sorted_failures(inlet, DEFAULTS, *dead)
    assert len({failure.id for failure in found}) == 2
    assert {(failure.rule, failure.copy) for failure in found} == {("scan", "")}


PEXAPP = (
    '203.0.113.7 - - [22/Nov/2026:14:12:18 +0000]  "POST /api/client/v2/conferences/{}/request_token HTTP/1.1" 403 45'
    ' "-" "-" "-" "403" "0.005"'
)


def test_a_line_without_an_id_has_one_by_its_text_whoever_sent_it(inlet: socket.socket) -> None:
    bare, other = PEXAPP.format("a").encode(), PEXAPP.format("b").encode()
    framed = [b"<190>Nov 22 14:12:18 pinban: " + bare, b"<133>Nov 22 14:12:19 rp1 nginx: " + bare]
    found = sorted_failures(inlet, DEFAULTS, bare, *framed, other, bare)
    assert len({failure.id for failure in found}) == 2
    assert len({failure.copy for failure in found}) == 5
    assert all(len(failure.id) == 16 and failure.id.isalnum() for failure in found)
    assert [(f.id, f.copy) for f in sorted_failures(inlet, DEFAULTS, line())] == [("i", "")]


def test_a_daemons_lines_are_told_apart_by_the_time_in_their_frame(inlet: socket.socket) -> None:
    own = {"sshd": Rule(failregex="Failed password for .* from <HOST>$")}
    settings = msgspec.structs.replace(DEFAULTS, rules={**DEFAULTS.rules, **own})
    lines = [b"<38>Nov 22 14:12:%02d h sshd[7]: Failed password for root from 203.0.113.7" % s for s in (18, 18, 19)]
    found = sorted_failures(inlet, settings, *lines)
    assert [failure.rule for failure in found] == ["sshd"] * 3
    assert found[0].id == found[1].id != found[2].id
