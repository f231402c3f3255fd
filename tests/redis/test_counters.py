"""Counting in Redis: exact, idempotent, one round trip, readable."""

from __future__ import annotations

import msgspec
import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.failures import Counted, Failure
from receiver.store.counters import Counters
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.settings.schema import Rule, Settings
from shared.store.keys import Keys
from shared.store.store import Store
from tests.redis.conftest import KEYS, members

A, B = Network("203.0.113.7"), Network("2001:db8:1:2::/64")

#: The now of the failures' clock; far from zero, so that they can be old.
NOW_MS = 10**9

#: How far Redis TIME may go on while we count, ms.
EDGE_MS = 4_000


@pytest.fixture
def counts(settings: Settings, client: redis.Redis) -> Counters:
    return Counters(Store(client), settings)


def failure(id_: str, network: Network = A, age_ms: int = 0, alias: str = "meet") -> Failure:
    return Failure(network, "pin", id_, "rp1", alias, NOW_MS - age_ms)


def window(client: redis.Redis) -> list[tuple[str, int]]:
    """The ids in A's window and their ms of Redis TIME, oldest first."""
    return [(member.split(" ")[0], at) for member, at in members(client, KEYS.window(A, "pin"))]


def count(counts: Counters, *failures: Failure) -> int:
    [counted] = counts.count(failures, NOW_MS)
    return counted.count


def test_failures_add_up(counts: Counters) -> None:
    assert [count(counts, failure(id_)) for id_ in "abc"] == [1, 2, 3]
    assert count(counts, failure("d"), failure("e")) == 5


def test_the_same_failure_counts_once_however_often_it_comes(counts: Counters) -> None:
    assert count(counts, failure("a"), failure("a"), failure("b")) == 2
    assert count(counts, failure("a", alias="other", age_ms=100), failure("b")) == 2


def test_an_id_that_begins_like_another_is_another(counts: Counters) -> None:
    assert count(counts, failure("a"), failure("ab"), failure("abc")) == 3


def test_addresses_and_deployments_are_counted_apart(counts: Counters, settings: Settings, client: redis.Redis) -> None:
    found = counts.count([failure("a"), failure("a", B), failure("b"), failure("c", B)], NOW_MS)
    assert found == [Counted(A, "pin", 2), Counted(B, "pin", 2)]
    assert count(Counters(Store(client, Keys("other")), settings), failure("z")) == 1


def test_a_failure_older_than_the_window_is_none(counts: Counters, client: redis.Redis) -> None:
    assert count(counts, failure("old", age_ms=300_000)) == 0
    assert client.keys("*") == []


@pytest.mark.parametrize("set_back_ms", [10_000, 3_600_000])
def test_failures_and_bans_of_a_future_that_was_taken_back_are_none(
    counts: Counters, client: redis.Redis, set_back_ms: int
) -> None:
    """Else a network that was banned before Redis' clock was set back could not be banned again until it catches up."""
    ahead = Store(client).now_ms() + set_back_ms
    client.zadd(KEYS.window(A, "pin"), {"old rp alias": ahead, "!": ahead})
    assert count(counts, failure("1"), failure("2")) == 2


def test_the_count_is_a_readable_integer_that_ends_with_the_youngest_failure(
    counts: Counters, client: redis.Redis
) -> None:
    count(counts, failure("a", age_ms=200_000), failure("b", age_ms=100_000))
    assert client.get("pinban:count:{203.0.113.7}:pin") == b"2"
    for key in (KEYS.count(A, "pin"), KEYS.window(A, "pin")):
        assert 195_000 < client.pttl(key) <= 200_000
    assert count(counts, failure("c", age_ms=250_000)) == 3
    assert 195_000 < client.pttl(KEYS.count(A, "pin")) <= 200_000


def test_each_failure_keeps_the_window_for_its_own_findtime(counts: Counters, client: redis.Redis) -> None:
    """Else a guesser who spreads his failures over findtime is never banned."""
    count(counts, failure("a"))
    names = KEYS.count(A, "pin"), KEYS.window(A, "pin")
    for name in names:
        assert client.pexpire(name, 1_000), "as if findtime were nearly over"
    assert count(counts, failure("b")) == 2
    assert [client.pttl(name) > 295_000 for name in names] == [True, True]


def test_at_the_limit_the_evidence_is_returned_oldest_first(counts: Counters) -> None:
    [counted] = counts.count([failure(str(i), age_ms=10_000 * i, alias=f"room{i}") for i in range(4)], NOW_MS)
    assert (counted.count, counted.evidence) == (4, ())
    [counted] = counts.count([failure("x")], NOW_MS)
    assert counted.count == 5
    words = [each.split(" ") for each in counted.evidence]
    assert [each[:3] for each in words[:4]] == [[str(i), "rp1", f"room{i}"] for i in (3, 2, 1, 0)]
    at = [int(each[3]) for each in words]
    assert at == sorted(at)
    assert abs(at[1] - at[0] - 10_000) < EDGE_MS


def test_never_more_than_maxretry_are_kept(counts: Counters, client: redis.Redis) -> None:
    assert count(counts, *(failure(str(i), age_ms=1_000 * i) for i in range(50))) == 5
    assert count(counts, failure("late", age_ms=100_000)) == 5
    assert {id_ for id_, _ in window(client)} == {"0", "1", "2", "3", "4"}


def test_a_reset_counts_from_zero_and_makes_no_window_where_none_was(counts: Counters, client: redis.Redis) -> None:
    """Such a window would hold the mark alone, and for ever: each ban of each address would leave some."""
    count(counts, failure("a"), failure("b"))
    counts.reset(A, ["pin", "prompt"], long=True)
    assert client.keys("*") == [KEYS.window(A, "pin").encode()]
    assert 0 < client.pttl(KEYS.window(A, "pin")) <= 300_000
    assert count(counts, failure("a"), failure("b")) == 0, "what it did stays known"


def test_a_ban_in_the_very_millisecond_of_its_failures_is_after_them(counts: Counters, client: redis.Redis) -> None:
    """Else it would be the first to be cut off, and they would count again."""
    count(counts, *(failure(id_) for id_ in "abcde"))
    counts.reset(A, ["pin"], long=False)
    window_key = KEYS.window(A, "pin")
    banned_at = int(dict(members(client, window_key))["!"])
    client.zadd(window_key, {member: banned_at for member, _ in members(client, window_key) if member != "!"})
    for member, _ in members(client, window_key):
        client.zincrby(window_key, -5_000, member)  # so long ago
    assert [count(counts, failure(id_)) for id_ in "fghi"] == [1, 2, 3, 4]


def test_what_happened_before_a_ban_and_is_told_after_it_counts_no_more(counts: Counters, client: redis.Redis) -> None:
    count(counts, failure("a", age_ms=8_000), failure("b", age_ms=20_000))
    counts.reset(A, ["pin"], long=False)
    client.zincrby(KEYS.window(A, "pin"), -5_000, "!")  # so long ago
    assert count(counts, failure("c", age_ms=10_000)) == 0
    assert count(counts, failure("d", age_ms=30_000), failure("e")) == 1


def test_what_led_to_a_ban_is_known_however_many_receivers_tell_it_after_the_ban(
    counts: Counters, client: redis.Redis
) -> None:
    count(counts, *(failure(id_, age_ms=8_000) for id_ in "abcde"))
    counts.reset(A, ["pin"], long=False)
    client.zincrby(KEYS.window(A, "pin"), -5_000, "!")  # so long ago
    assert [count(counts, *(failure(id_) for id_ in "abcde")) for _ in range(3)] == [0, 0, 0]
    assert count(counts, failure("f")) == 1


def test_forgetting_starts_from_zero(counts: Counters, client: redis.Redis) -> None:
    count(counts, failure("a"), failure("b"))
    counts.forget(A, ["pin"])
    assert client.keys("*") == []
    assert count(counts, failure("c")) == 1


def test_a_flushed_script_is_loaded_again_and_nothing_is_doubled(counts: Counters, client: redis.Redis) -> None:
    assert count(counts, failure("a")) == 1
    client.script_flush()
    found = counts.count([failure("b"), failure("c", B)], NOW_MS)
    assert [each.count for each in found] == [2, 1]


def test_many_addresses_are_counted_in_one_round_trip(counts: Counters, client: redis.Redis) -> None:
    counts.count([failure("warm")], NOW_MS)
    client.config_resetstat()
    many = [failure(str(i), Network(f"10.0.{i >> 8}.{i & 255}")) for i in range(500)]
    assert len(counts.count(many, NOW_MS)) == 500
    info = client.info("all")
    assert info["cmdstat_evalsha"]["calls"] == 500
    assert "cmdstat_script|load" not in info
    # A round trip each would be 500 reads; a pipeline is read in pieces of 16 KiB.
    assert info["total_reads_processed"] < 50


def test_a_key_of_another_type_is_replaced_and_hides_nobody(
    counts: Counters, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    client.set(KEYS.window(A, "pin"), "x")
    found = counts.count([failure("a"), failure("b", B)], NOW_MS)
    assert found == [Counted(A, "pin", 1), Counted(B, "pin", 1)]
    assert "deleted the counter pin of 203.0.113.7" in caplog.text


@pytest.mark.parametrize("member", ["garbage", "", " ", "\xff\xfe", "!"])
def test_a_foreign_member_of_a_window_keeps_nobody_from_counting(
    counts: Counters, client: redis.Redis, member: str
) -> None:
    client.zadd(KEYS.window(A, "pin"), {member.encode("latin-1"): Store(client).now_ms() - 1_000})
    assert count(counts, failure("a"), failure("b")) >= 2


class Oracle:
    """A window by its definition: every failure is kept for ever, and what counts is looked up."""

    def __init__(self, maxretry: int) -> None:
        self._maxretry = maxretry
        self._ages: dict[str, int] = {}  #: by id, ms

    def age(self, id_: str, age_ms: int) -> int:
        """How old the failure of this id is; a repeat is as old as the failure it repeats."""
        return self._ages.setdefault(id_, age_ms)

    def passes(self, ms: int) -> None:
        for id_ in self._ages:
            self._ages[id_] += ms

    def alive(self) -> list[int]:
        """Ages of the failures in the window, the youngest first, at most maxretry."""
        return sorted(age for age in self._ages.values() if age < FINDTIME_MS)[: self._maxretry]


#: All ages are multiples of 10 s, so that none is near the window's end while Redis TIME goes on.
FINDTIME_MS = 605_000
spans = st.integers(0, 80).map(lambda i: i * 10_000)
some = st.lists(st.tuples(st.integers(0, 12).map(str), spans), min_size=1, max_size=6)


@hypothesis_settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.tuples(spans, some), max_size=8), st.integers(1, 8), st.booleans())
def test_the_window_is_exact(
    settings: Settings,
    client: redis.Redis,
    history: list[tuple[int, list[tuple[str, int]]]],
    maxretry: int,
    repeat: bool,
) -> None:
    client.flushall()
    rule = msgspec.structs.replace(Rule(), maxretry=maxretry, findtime=Milliseconds(FINDTIME_MS))
    counts = Counters(Store(client), msgspec.structs.replace(settings, rules={"pin": rule}))
    oracle = Oracle(maxretry)
    for pause_ms, call in history:
        oracle.passes(pause_ms)
        for member, at in members(client, KEYS.window(A, "pin")):
            client.zadd(KEYS.window(A, "pin"), {member: at - pause_ms})
        failures = [failure(id_, age_ms=oracle.age(id_, age_ms)) for id_, age_ms in call]
        expected = oracle.alive()
        for _ in range(1 + repeat):
            assert count(counts, *failures) == len(expected)
        now = Store(client).now_ms()
        kept = [now - at for _, at in reversed(window(client))]
        assert len(kept) == len(expected)
        assert all(abs(is_ - should_be) < EDGE_MS for is_, should_be in zip(kept, expected, strict=True))
        if expected:
            assert client.get(KEYS.count(A, "pin")) == b"%d" % len(expected)
            assert abs(client.pttl(KEYS.count(A, "pin")) - (FINDTIME_MS - expected[0])) < EDGE_MS
