"""Who is exempt: DNS names of ignoreip, whose resolver may fail or hang, and the central allow-list."""

from __future__ import annotations

import ctypes
import json
import socket
import threading
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enforcer.agent import Agent
from enforcer.firewall.dry_run import DryRunFirewall
from enforcer.snapshot import Snapshot
from receiver.intake import Sorter
from receiver.lines.rulebook import Rulebook
from receiver.spool.slots import Spool
from shared.addresses import Network
from shared.events import Allow, Ban, Stamp, encode
from shared.exempt.exemptions import Exemptions, names_of
from shared.exempt.names import Names
from shared.ledger.allow import AllowList, Entry, decode_entries
from shared.settings.schema import Settings
from tests.lab.netns import CLONE_NEWNET, ip
from tests.lab.process import wait_until
from tests.unit.receiver.children import Child

A, B, C = Network("203.0.113.7"), Network("203.0.113.8"), Network("2001:db8:1:2::/64")

DEFAULTS = msgspec.structs.replace(Settings(), ignoreself=False, ignoreip=("198.51.100.0/24", "office.example.com"))

LONG_MS = 600_000


class Resolver:
    """Answers what it is told to; fails for names it does not know; hangs while it is held."""

    def __init__(self, **known: set[str]) -> None:
        self.known = known
        self.held = threading.Event()
        self.asked: list[str] = []
        self._go_on = threading.Event()

    def __call__(self, name: str) -> set[str]:
        self.asked.append(name)
        if self.held.is_set():
            assert self._go_on.wait(20)
        try:
            return self.known[name.partition(".")[0]]
        except KeyError as error:
            raise socket.gaierror(-2, "Name or service not known") from error

    def go_on(self) -> None:
        self.held.clear()
        self._go_on.set()


def spares(names: Names, network: Network) -> bool:
    return bool(Exemptions(DEFAULTS, names)(network))


def test_a_name_spares_its_addresses_of_both_families_and_no_other() -> None:
    names = Names(["office.example.com"], Resolver(office={A, "2001:db8:1:2::9"}))
    assert not spares(names, A)
    names.refresh()
    assert [spares(names, network) for network in (A, B, C)] == [True, False, True]


def test_a_refresh_follows_a_name_that_moved() -> None:
    resolver = Resolver(office={A})
    names = Names(["office.example.com"], resolver)
    names.refresh()
    resolver.known["office"] = {B}
    names.refresh()
    assert [spares(names, network) for network in (A, B)] == [False, True]


def test_a_resolver_that_fails_keeps_what_worked(caplog: pytest.LogCaptureFixture) -> None:
    resolver = Resolver(office={A}, home={B})
    names = Names(["office.example.com", "home.example.com", "never.example.com"], resolver)
    names.refresh()
    del resolver.known["office"]
    resolver.known["home"] = {C.removesuffix("/64")}
    for _ in range(3):
        names.refresh()
    assert [spares(names, network) for network in (A, B, C)] == [True, False, True]
    assert "never.example.com cannot be looked up" in caplog.text
    assert "keeps nothing" in caplog.text
    assert len(caplog.records) <= 20


@pytest.mark.parametrize("answer", [{"not an address"}, {"fe80::1%eth0"}, {"203.0.113.7/8"}])
def test_an_answer_that_is_no_address_keeps_what_worked(answer: set[str]) -> None:
    resolver = Resolver(office={A})
    names = Names(["office.example.com"], resolver)
    names.refresh()
    resolver.known["office"] = answer
    names.refresh()
    assert spares(names, A)


def test_one_bad_answer_does_not_spoil_the_good_ones() -> None:
    names = Names(["office.example.com"], Resolver(office={"fe80::1%eth0", A}))
    names.refresh()
    assert spares(names, A)


def test_a_name_that_cannot_be_encoded_stops_nothing() -> None:
    names = Names([f"{'a' * 63}.{'b' * 64}.example.com", "localhost"])
    names.refresh()
    assert spares(names, Network("127.0.0.1"))


def test_only_names_are_looked_up() -> None:
    resolver = Resolver(office={A})
    found = names_of(DEFAULTS)
    names = Names(found._known, resolver)  # what it would ask
    names.refresh()
    assert resolver.asked == ["office.example.com"]


def test_an_address_that_this_host_gets_later_is_exempt_too() -> None:
    """In a network namespace of its own: a process sees the addresses of the one that it is in."""

    def look(_: Child) -> None:
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
        settings = msgspec.structs.replace(DEFAULTS, ignoreself=True)
        seldom, often = Exemptions(settings), Exemptions(settings, refresh_s=0.0)
        assert [seldom(A), often(A), often(C)] == [""] * 3
        ip("link", "set", "lo", "up")
        ip("address", "add", f"{A}/32", "dev", "lo")
        ip("address", "add", "2001:db8:1:2::9/128", "dev", "lo", "nodad")
        assert [often(A), often(C), often(B)] == ["this host has an address in it"] * 2 + [""]
        assert seldom(A) == "", "it does not read /proc for each line"

    assert Child(look).end() == 0


@pytest.fixture
def hanging() -> Iterator[tuple[Resolver, Names]]:
    """The second look-up does not come back."""
    resolver = Resolver(office={A})
    names = Names(["office.example.com"], resolver)
    names.refresh()
    resolver.held.set()
    names.start()
    wait_until(lambda: len(resolver.asked) == 2, "it hangs")
    yield resolver, names
    names.stop()
    resolver.go_on()
    names.join(5)
    assert not names.is_alive()


def test_a_resolver_that_hangs_keeps_nothing_waiting(hanging: tuple[Resolver, Names]) -> None:
    resolver, names = hanging
    slot = Spool(1).slots[0]
    sorter = Sorter(DEFAULTS, Rulebook(DEFAULTS), Exemptions(DEFAULTS, names))
    outlet, inlet = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with outlet, inlet:
        for network in (A, B, A, B):
            line = {"v": 1, "id": "i", "ip": network, "m": "POST", "k": "conference", "a": "x", "s": "403", "us": "403"}
            outlet.send(json.dumps({**line, "l": "45", "p": "1"}).encode())
        assert slot.receive(inlet) == 4
        assert sorter.sort(slot) == 2
    intake = slot.intake.read()
    assert (intake["ignored"], intake["wrong_pin"]) == (2, 2)
    assert resolver.held.is_set()


def test_entries_are_written_and_read_alike() -> None:
    entries = [Entry(A, "the office", 0), Entry(C, 'a "note" \N{SNOWMAN}', 5_000)]
    stored = {entry.network.encode(): entry.encode().encode() for entry in entries}
    assert sorted(decode_entries(stored, 4_999), key=lambda e: e.network) == sorted(entries, key=lambda e: e.network)
    assert decode_entries(stored, 5_000) == entries[:1]


@pytest.mark.parametrize(
    ("member", "stored"),
    [
        (b"203.0.113.7", b""),
        (b"203.0.113.7", b"x"),
        (b"203.0.113.7", b"[]"),
        (b"203.0.113.7", b"null"),
        (b"203.0.113.7", b"3"),
        (b"203.0.113.7", b'{"until": "soon"}'),
        (b"203.0.113.7", b'{"until": null}'),
        (b"203.0.113.7", b'{"until": []}'),
        (b"203.0.113.7", b'{"until": -1}'),
        (b"203.0.113.7", b'{"until": NaN}'),
        (b"203.0.113.7", b'{"until": Infinity}'),
        (b"203.0.113.7", b'{"until": 1e999}'),
        (b"203.0.113.7", b'{"until": ' + b"9" * 5_000 + b"}"),
        (b"203.0.113.7", b"[" * 100_000),
        (b"203.0.113.7", b"\xff\xfe"),
        (b"203.0.113.7/8", b"{}"),
        (b"fe80::1%eth0", b"{}"),
        (b"office.example.com", b"{}"),
        (b"", b"{}"),
        (b"\xff", b"{}"),
    ],
)
def test_garbage_allows_nothing_and_hides_no_other_entry(member: bytes, stored: bytes) -> None:
    good = Entry(B, "", 0)
    assert decode_entries({member: stored, B.encode(): good.encode().encode()}, 1_000) == [good]


@given(st.dictionaries(st.binary(max_size=40), st.binary(max_size=60), max_size=5))
def test_no_bytes_break_the_list(stored: dict[bytes, bytes]) -> None:
    decode_entries(stored, 0)


def test_a_note_can_always_be_shown() -> None:
    [entry] = decode_entries({B.encode(): b'{"note": "\\ud800", "until": 0}'}, 0)
    assert entry.note.encode() == b"?"


def test_an_entry_ends_by_itself_on_the_readers_own_clock() -> None:
    allowed = AllowList([Entry(A, "", 0), Entry(B, "", 10_500), Entry(C, "", 11_000)], redis_ms=10_000, now=70)
    for now, expected in (
        (70, [True] * 3),
        (569, [True] * 3),
        (570, [True, False, True]),
        (1_070, [True, False, False]),
    ):
        assert [allowed.overlaps(network, now) for network in (A, B, C)] == expected


def test_what_overlaps_an_allowed_network_is_allowed() -> None:
    allowed = AllowList([Entry(Network("203.0.113.0/28"), "", 0), Entry(Network("2001:db8:1:2::5"), "", 0)])
    for text, expected in (
        ("203.0.113.15", True), ("203.0.113.16", False), ("203.0.0.0/16", True), ("2001:db8:1:2::/64", True),
        ("2001:db8:1:3::/64", False),
    ):  # fmt: skip
        assert allowed.overlaps(Network(text), 0) is expected


class Proxy:
    """An enforcer without Redis: snapshots and events by hand, the dry-run firewall, the true sparing."""

    def __init__(self) -> None:
        self.firewall = DryRunFirewall()
        exempt = Exemptions(DEFAULTS)
        self.agent = Agent(self.firewall, exempt, exempt.learn)
        self.agent.arm()

    def snapshot(self, rev: int, *bans: Network, allowed: tuple[Entry, ...] = (), epoch: str = "e") -> None:
        self.agent.resync(Snapshot(Stamp(epoch, rev), dict.fromkeys(bans, LONG_MS).items(), 0, allowed, 1_000_000))

    def drops(self) -> set[Network]:
        return set(self.firewall.bans())


def test_a_snapshot_drops_nobody_that_is_allowed() -> None:
    proxy = Proxy()
    proxy.snapshot(1, A, B)
    assert proxy.drops() == {A, B}
    proxy.snapshot(2, A, B, allowed=(Entry(A, "", 0),))
    assert proxy.drops() == {B}
    proxy.agent.follow([encode(Ban(Stamp("e", 3), A, LONG_MS, "pin"))])
    assert proxy.drops() == {B}
    assert proxy.agent.tally["exempt"] == 1


def test_an_entry_that_is_over_spares_nobody_and_one_taken_off_neither() -> None:
    proxy = Proxy()
    proxy.snapshot(1, A, B, allowed=(Entry(A, "", 1_000_000), Entry(B, "", 0)))
    assert proxy.drops() == {A}
    proxy.snapshot(2, A, B)
    assert proxy.drops() == {A, B}


def test_the_news_of_a_changed_list_asks_for_a_snapshot_once() -> None:
    proxy = Proxy()
    proxy.snapshot(5)
    assert not proxy.agent.follow([encode(Allow(Stamp("e", 6)))])
    proxy.snapshot(6)
    assert proxy.agent.follow([encode(Allow(Stamp("e", 6)))])


def test_a_ban_of_a_lost_ledger_ends_when_its_address_is_allowed() -> None:
    proxy = Proxy()
    proxy.snapshot(9, A, B)
    proxy.snapshot(1, epoch="new")
    assert proxy.drops() == {A, B}, "nobody is let in because a ledger was lost"
    proxy.snapshot(2, epoch="new", allowed=(Entry(A, "", 0),))
    assert proxy.drops() == {B}
