"""Which clients the kernel told of: what is remembered, and when it is certain that a client was not there."""

from __future__ import annotations

from socket import AF_INET, AF_INET6, inet_pton

import pytest

from enforcer.witness import peers
from enforcer.witness.peers import KEPT_MS, Answer, Peers, client_of
from shared.addresses import Network

SEEN, UNSEEN, UNKNOWN = Answer.SEEN, Answer.UNSEEN, Answer.UNKNOWN


def client(address: str) -> bytes:
    return client_of(inet_pton(AF_INET6 if ":" in address else AF_INET, address))


@pytest.fixture
def watching() -> Peers:
    """Since the ms 1000; 203.0.113.7 and an address of 2001:db8:1:2::/64 were there at 5000."""
    watching = Peers(1_000)
    watching.note([client("203.0.113.7"), client("2001:db8:1:2::9")], 5_000)
    return watching


@pytest.mark.parametrize(
    ("network", "since_ms", "answer"),
    [
        ("203.0.113.7", 4_000, SEEN),
        ("203.0.113.7", 5_000, SEEN),
        ("203.0.113.7", 0, SEEN),
        ("203.0.113.7", 5_001, UNSEEN),
        ("203.0.113.8", 1_000, UNSEEN),
        ("203.0.113.8", 999, UNKNOWN),
        ("203.0.113.0/24", 4_000, SEEN),
        ("203.0.112.0/24", 4_000, UNSEEN),
        ("2001:db8:1:2::/64", 4_000, SEEN),
        ("2001:db8:1:2::5", 4_000, SEEN),
        ("2001:db8:1::/48", 4_000, SEEN),
        ("2001:db8:1::/56", 4_000, SEEN),
        ("2001:db8:1:100::/56", 4_000, UNSEEN),
        ("2001:db8:2::/48", 4_000, UNSEEN),
        ("2001:db8:1:3::/64", 4_000, UNSEEN),
        ("2001:db8:1:3::/64", 0, UNKNOWN),
    ],
)
def test_a_network_was_there_if_one_of_its_addresses_was(
    watching: Peers, network: str, since_ms: int, answer: Answer
) -> None:
    assert watching.answer(Network(network), since_ms, 6_000) is answer


def test_who_comes_after_a_wide_network_was_asked_about_is_seen_in_it(watching: Peers) -> None:
    wide, wide6 = Network("198.51.100.0/24"), Network("2001:db8:9::/48")
    assert watching.answer(wide, 4_000, 6_000) is UNSEEN
    assert watching.answer(wide6, 4_000, 6_000) is UNSEEN
    watching.note([client("198.51.100.9"), client("2001:db8:9:8::7")], 7_000)
    assert watching.answer(wide, 4_000, 8_000) is SEEN
    assert watching.answer(wide6, 4_000, 8_000) is SEEN
    assert watching.answer(wide, 7_001, 8_000) is UNSEEN


def test_an_ipv4_client_of_an_ipv6_socket_is_the_same_client() -> None:
    assert client("::ffff:203.0.113.7") == client("203.0.113.7")


def test_who_may_have_been_missed_is_not_called_unseen(watching: Peers) -> None:
    watching.missed(8_000)
    assert watching.answer(Network("203.0.113.8"), 7_999, 9_000) is UNKNOWN
    assert watching.answer(Network("203.0.113.8"), 8_000, 9_000) is UNSEEN
    assert watching.answer(Network("203.0.113.7"), 4_000, 9_000) is SEEN


def test_who_is_forgotten_is_not_called_unseen(watching: Peers) -> None:
    watching.note([client("203.0.113.9")], 9_000)
    later = 5_000 + KEPT_MS + 1
    watching.forget_old(later)
    assert len(watching) == 1
    assert watching.answer(Network("203.0.113.7"), 5_000, later) is UNKNOWN
    assert watching.answer(Network("203.0.113.7"), 5_001, later) is UNSEEN


def test_a_flood_of_clients_takes_no_more_memory_and_makes_no_guesser_unseen(
    watching: Peers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "MOST", 100)
    for n in range(1_000):
        watching.note([client(f"198.18.{n >> 8}.{n & 255}")], 6_000 + n)
    assert len(watching) == 100
    assert watching.answer(Network("203.0.113.7"), 4_000, 8_000) is UNKNOWN
    assert watching.answer(Network("198.18.3.231"), 6_000, 8_000) is SEEN
    assert watching.answer(Network("203.0.113.7"), 6_900, 8_000) is UNSEEN


def test_few_prefix_lengths_are_kept_at_a_time(watching: Peers) -> None:
    for length in range(8, 32):
        watching.answer(Network(f"10.0.0.0/{length}"), 4_000, 6_000)
    assert len(watching._copies) <= 4
    assert watching.answer(Network("203.0.0.0/8"), 4_000, 6_000) is SEEN
