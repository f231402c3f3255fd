"""Lines that have no request id: the same line by two ways is one failure, and two of the same text are two."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
import redis

from receiver.failures import Failure
from receiver.store.counters import Counters
from shared.addresses import Network
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.redis.conftest import KEYS, members
from tests.redis.counting import with_rules

A = Network("203.0.113.7")

NOW_MS = 10**9


class Receiver:
    """Takes in the lines of one nginx, each once, and counts them on a connection of its own."""

    def __init__(self, name: str, settings: Settings, client: redis.Redis) -> None:
        self._name = name
        self._counts = Counters(Store(client), settings)
        self._taken = 0

    def arrivals(self, texts: str, age_ms: int = 0) -> list[Failure]:
        """One line for each letter, which is its text."""
        first, self._taken = self._taken, self._taken + len(texts)
        return [
            Failure(A, "pin", text, "rp1", "meet", NOW_MS - age_ms, copy=f"{self._name}.0.{n // 64}.{n % 64}")
            for n, text in enumerate(texts, first)
        ]

    def count(self, some: Sequence[Failure]) -> int:
        return self._counts.count(some, NOW_MS)[0].count

    def take(self, texts: str, age_ms: int = 0) -> int:
        return self.count(self.arrivals(texts, age_ms))


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return with_rules(settings, pin={"maxretry": 12})


@pytest.fixture
def rx1(settings: Settings, client: redis.Redis) -> Receiver:
    return Receiver("0123abcd", settings, client)


@pytest.fixture
def rx2(settings: Settings, client: redis.Redis) -> Receiver:
    return Receiver("4567abcd", settings, client)


def test_three_lines_by_two_receivers_are_three_failures(rx1: Receiver, rx2: Receiver) -> None:
    assert [rx1.take("abc"), rx2.take("abc")] == [3, 3]


def test_five_lines_of_one_text_are_five_failures_by_two_receivers_too(rx1: Receiver, rx2: Receiver) -> None:
    assert [rx1.take("aaaaa"), rx2.take("aaaaa")] == [5, 5]
    assert [rx1.take("a"), rx2.take("a")] == [6, 6]


def test_what_one_receiver_lost_the_other_tells(rx1: Receiver, rx2: Receiver) -> None:
    assert [rx1.take("aab"), rx2.take("aaabc"), rx1.take("c")] == [3, 5, 5]


def test_lines_that_are_told_again_after_a_fault_count_once(rx1: Receiver, rx2: Receiver) -> None:
    some = rx1.arrivals("aaab")
    assert [rx1.count(some[:2]), rx1.count(some), rx1.count(some), rx2.take("aaab"), rx1.count(some)] == [2, 4, 4, 4, 4]


@pytest.mark.parametrize("seed", range(20))
def test_however_receivers_take_turns_each_line_counts_once(rx1: Receiver, rx2: Receiver, seed: int) -> None:
    rng = random.Random(seed)
    both = [iter(rx1.arrivals("aabacbbaca")), iter(rx2.arrivals("aabacbbaca"))]
    while both:
        way = rng.choice(both)
        some = list(islice(way, rng.randint(1, 3)))
        if some:
            rx1.count(some * rng.randint(1, 2))
        else:
            both.remove(way)
    assert rx1.take("z") == 11


def test_what_is_told_after_the_ban_it_led_to_counts_no_more(
    rx1: Receiver, rx2: Receiver, settings: Settings, client: redis.Redis
) -> None:
    assert rx1.take("aaaaabbbbbcc") == 12
    Counters(Store(client), settings).reset(A, ["pin"], long=False)
    assert rx2.take("aaaaabbbbbcc") == 0
    assert rx1.take("c") == 1


def test_a_flood_of_one_text_and_of_many_takes_bounded_memory(rx1: Receiver, client: redis.Redis) -> None:
    key = KEYS.copies(A, "pin")
    assert rx1.take("a" * 3_000) == 12
    assert (client.hlen(key), (client.memory_usage(key) or 0) < 1_000) == (1, True)
    for first in range(0x4E00, 0x4E00 + 3_000, 100):
        rx1.take("".join(map(chr, range(first, first + 100))))
        assert client.hlen(key) <= 4 * 12 + 1
    assert 290_000 < client.pttl(key) <= 300_000


def test_a_text_without_time_that_comes_for_days_is_counted_each_time(settings: Settings, client: redis.Redis) -> None:
    """A daemon may write the same line again and again; what is old is forgotten, and the numbers go on."""
    receiver = Receiver("0123abcd", with_rules(settings, pin={"maxretry": 3}), client)
    for _ in range(20):
        assert receiver.take("a") <= 2
        for member, _ in members(client, KEYS.window(A, "pin")):
            client.zincrby(KEYS.window(A, "pin"), -160_000, member)
    assert receiver.take("aa") == 3


def test_lines_with_an_id_need_no_such_memory(rx1: Receiver, client: redis.Redis) -> None:
    rx1.count([replace(each, copy="") for each in rx1.arrivals("abc")])
    assert client.exists(KEYS.copies(A, "pin")) == 0


def test_forgetting_an_address_leaves_nothing(rx1: Receiver, settings: Settings, client: redis.Redis) -> None:
    rx1.take("aab")
    Counters(Store(client), settings).forget(A, ["pin"])
    assert client.keys("*") == []


def test_a_wider_network_counts_them_once_too(settings: Settings, client: redis.Redis) -> None:
    counts = Counters(Store(client), with_rules(settings, pin={"levels": ("ipv4/24=25",)}))
    for name in ("0123abcd", "4567abcd"):
        some = [
            Failure(Network(f"203.0.113.{n}"), "pin", "a", "rp1", "m", NOW_MS, levels=(24,), copy=f"{name}.0.0.{n}")
            for n in range(8)
        ]
        assert {each.network: each.count for each in counts.count(some, NOW_MS)}[Network("203.0.113.0/24")] == 8


def test_a_key_of_another_type_is_replaced(rx1: Receiver, client: redis.Redis) -> None:
    client.set(KEYS.copies(A, "pin"), "x")
    assert rx1.take("aab") == 3


@pytest.mark.parametrize("value", ["", "x", "7", "9" * 400, "1 \n"])
def test_what_a_person_wrote_into_it_hides_no_failure(rx1: Receiver, client: redis.Redis, value: str) -> None:
    client.hset(KEYS.copies(A, "pin"), "a 0123abcd", value)
    assert rx1.take("aa") == 2


def test_a_rule_of_ones_own_counts_them_the_same_way(settings: Settings, client: redis.Redis) -> None:
    counts = Counters(Store(client), with_rules(settings, sshd={"maxretry": 3}))
    some = [Failure(A, "sshd", "a", "rp1", "", NOW_MS, copy=f"0123abcd.0.0.{n}") for n in range(2)]
    assert counts.count([*some, *some], NOW_MS)[0].count == 2
