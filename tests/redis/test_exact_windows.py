"""Whether an address is banned, at which failure, and when again, is what an independent count of its failures says.

Two receivers count, each with a connection of its own, in every order. The clock of Redis goes on as it likes: what is
old is sent with its age, and time that passes moves the window's members into the past; nothing is near an edge.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from receiver.failures import Failure
from receiver.store.counters import Counters
from receiver.verdict import Circumstances, Verdict, broken_rule, decide
from shared.addresses import Network
from shared.ledger.changes import Ledger, NewBan, Recorded
from shared.settings.schema import Rule, Settings
from shared.settings.windows import LONG
from shared.store.store import Store
from tests.lab.process import PATIENCE_S
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS, facts, history, members
from tests.redis.counting import with_rules

ADDRESSES = [Network("203.0.113.7"), Network("203.0.113.8"), Network("2001:db8:1:2::/64")]

#: The now of the failures' clock, ms; far from zero, so that they can be old.
NOW_MS = 10**9

#: Ages and pauses are multiples of a minute; a little more passes after a batch that banned, and a repeat is told as a
#: little older than it is. So nothing is near the end of a window or of a ban, nor near the moment of one.
MINUTE_MS, LITTLE_MS, OLDER_MS = 60_000, 4_200, 2_000
FINDTIME_MS, LONG_FINDTIME_MS, BANTIME_MS = 355_800, 1_555_800, 300_000


@dataclass(frozen=True, slots=True)
class Told:
    """A failure as a line tells it, perhaps for the second time."""

    address: int
    id: int
    age_ms: int
    rp: int = 1  #: by way of which it came; no part of what it is

    @property
    def failure(self) -> Failure:
        return Failure(
            ADDRESSES[self.address], "pin", f"{self.address}-{self.id}", f"rp{self.rp}", "meet", NOW_MS - self.age_ms
        )


@dataclass(frozen=True, slots=True)
class Batch:
    """What one receiver counts in one round trip, after a pause."""

    pause_ms: int
    receiver: int
    lines: Sequence[Told]


@dataclass
class Oracle:
    """Keeps every failure for ever and looks at all of them each time. Knows nothing of Redis, keys or scripts."""

    maxretry: int
    long_maxretry: int
    ages: dict[tuple[int, int], int] = field(default_factory=dict)  #: (address, id) -> ms
    reached: dict[tuple[int, str], int] = field(default_factory=dict)  #: (address, window) -> ms since its limit was
    banned: dict[int, int] = field(default_factory=dict)  #: address -> ms since its last ban began

    def passes(self, ms: int) -> None:
        self.ages = {one: age + ms for one, age in self.ages.items()}
        self.reached = {one: age + ms for one, age in self.reached.items()}
        self.banned = {one: age + ms for one, age in self.banned.items()}

    def told(self, line: Told) -> Told:
        """The line with its true age: a repeat is as old as what it repeats."""
        if (known := self.ages.get((line.address, line.id))) is not None:
            return replace(line, age_ms=known + OLDER_MS)
        self.ages[line.address, line.id] = line.age_ms
        return line

    def full(self, address: int, window: str) -> bool:
        """Whether the window of an address has as many failures as it takes, since it last had."""
        limit, length = {"pin": (self.maxretry, FINDTIME_MS), "pin.long": (self.long_maxretry, LONG_FINDTIME_MS)}[
            window
        ]
        youngest = min(length, self.reached.get((address, window), length))
        ages = [age for (whose, _), age in self.ages.items() if whose == address]
        return limit > 0 and sum(age < youngest for age in ages) >= limit

    def verdict(self, address: int) -> str | None:
        """By which window the address is to be banned now."""
        return next((window for window in ("pin", "pin.long") if self.full(address, window)), None)

    def judge(self, address: int) -> str | None:
        """The window by which an address that has just failed is banned now, who is not; then its windows begin again:
        the short one at each ban, the long one at a ban that it made.
        """
        full = [window for window in ("pin", "pin.long") if self.full(address, window)]
        for window in full:
            self.reached[address, "pin"] = 0
            self.reached[address, window] = 0
        if not full or self.banned.get(address, BANTIME_MS) < BANTIME_MS:
            return None
        self.banned[address] = 0
        return full[0]


class Receiver:
    """Counters, decides and bans as receiver/counting.py does, on a connection of its own."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._counts = Counters(Store(client), settings)
        self._ledger = Ledger(Store(client))
        self._rules = settings.rules

    def take(self, lines: Sequence[Told]) -> list[tuple[Verdict, Recorded]]:
        made = []
        for counted in self._counts.count([line.failure for line in lines], NOW_MS):
            broken = broken_rule(counted, self._rules["pin"])
            verdict = broken and decide(counted, broken, self._rules, Circumstances(), 0.0)
            if verdict:
                ban = NewBan(verdict.network, verdict.bantime_ms, verdict.rule, "[]", "rx")
                made.append((verdict, self._ledger.ban(ban)))
                self._counts.reset(verdict.network, self._rules, long=verdict.rule.endswith(LONG))
        return made


@pytest.fixture(scope="module")
def clients(running: RedisServer) -> Iterator[list[redis.Redis]]:
    with running.client() as one, running.client() as other:
        yield [one, other]


def receivers(settings: Settings, clients: Sequence[redis.Redis], rule: Rule) -> list[Receiver]:
    facts = {"maxretry": rule.maxretry, "findtime": FINDTIME_MS, "bantime": BANTIME_MS}
    facts |= {"long_maxretry": rule.long_maxretry, "long_findtime": LONG_FINDTIME_MS}
    changed = with_rules(settings, pin=facts)
    return [Receiver(changed, client) for client in clients]


def into_the_past(client: redis.Redis, ms: int) -> None:
    """As if so much time had passed since the last failure was counted."""
    windows = [KEYS.window(address, window) for address in ADDRESSES for window in ("pin", "pin.long")]
    for key in (KEYS.bans, *windows):
        for member, at in members(client, key):
            client.zadd(key, {member: at - ms})


ages = st.just(0) | st.integers(0, 30).map(lambda n: n * MINUTE_MS)
lines = st.builds(Told, st.integers(0, 2), st.integers(0, 7), ages, st.integers(1, 2))
bursts = st.builds(
    lambda address, first, number, age: [Told(address, first + n, age) for n in range(number)],
    st.integers(0, 2), st.integers(0, 40), st.integers(2, 7), ages,
)  # fmt: skip
batches = st.builds(Batch, ages, st.integers(0, 1), st.lists(lines, min_size=1, max_size=5) | bursts)
rules = st.builds(lambda short, long: Rule(maxretry=short, long_maxretry=long and short + long),
                  st.integers(1, 8), st.integers(0, 8))  # fmt: skip

quietly = hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@hypothesis_settings(quietly, max_examples=250)
@given(st.lists(batches, max_size=12), rules)
def test_an_address_is_banned_each_time_at_the_failure_that_an_independent_count_says(
    settings: Settings, clients: list[redis.Redis], story: list[Batch], rule: Rule
) -> None:
    clients[0].flushall()
    both = receivers(settings, clients, rule)
    oracle = Oracle(rule.maxretry, rule.long_maxretry)
    bans = 0
    for batch in story:
        oracle.passes(batch.pause_ms)
        into_the_past(clients[0], batch.pause_ms)
        told = [oracle.told(line) for line in batch.lines]
        found = {v.network: v.rule for v, recorded in both[batch.receiver].take(told) if recorded.new}
        expected = {ADDRESSES[n]: why for n in {line.address for line in told} if (why := oracle.judge(n))}
        assert found == expected
        bans += len(expected)
        oracle.passes(LITTLE_MS * bool(expected))
        into_the_past(clients[0], LITTLE_MS * bool(expected))
    assert {network for network, _ in members(clients[0], KEYS.bans)} == {ADDRESSES[n] for n in oracle.banned}
    assert len(history(clients[0])) == bans


@pytest.mark.row(25)
@hypothesis_settings(quietly, max_examples=100)
@given(st.lists(lines, min_size=1, max_size=24), st.lists(lines, max_size=24), rules, st.booleans())
def test_two_receivers_that_race_come_to_one_ban_or_none(
    settings: Settings, clients: list[redis.Redis], mine: list[Told], yours: list[Told], rule: Rule, same: bool
) -> None:
    clients[0].flushall()
    both = receivers(settings, clients, rule)
    oracle = Oracle(rule.maxretry, rule.long_maxretry)
    mine = [oracle.told(line) for line in mine]
    yours = [replace(line, rp=3 - line.rp) for line in mine] if same else [oracle.told(line) for line in yours]
    together = threading.Barrier(2, timeout=PATIENCE_S)

    def run(receiver: Receiver, told: Sequence[Told]) -> list[tuple[Verdict, Recorded]]:
        together.wait()
        return [made for start in range(0, len(told), 2) for made in receiver.take(told[start : start + 2])]

    with ThreadPoolExecutor(2) as pool:
        made = [ban for each in pool.map(run, both, (mine, yours)) for ban in each]
    expected = {ADDRESSES[n] for n in range(len(ADDRESSES)) if oracle.verdict(n)}
    new = [verdict for verdict, recorded in made if recorded.new]
    assert sorted(verdict.network for verdict in new) == sorted(expected), "each once"
    assert {network for network, _ in members(clients[0], KEYS.bans)} == expected
    for verdict in new:
        assert facts(clients[0], KEYS.ban(verdict.network))["strikes"] == "1"
        ids = {failure["id"] for failure in verdict.evidence}
        assert len(ids) == (rule.long_maxretry if verdict.rule == "pin.long" else rule.maxretry), "none counted twice"
    assert len(history(clients[0])) == len(expected)


def test_sixteen_receivers_race_for_one_address(settings: Settings, running: RedisServer, client: redis.Redis) -> None:
    """Four failures each told by all: no ban. One more: a single one."""
    with ThreadPoolExecutor(16) as pool:
        many = receivers(settings, [running.client() for _ in range(16)], Rule())
        four = [Told(0, n, 0) for n in range(4)]
        assert list(pool.map(Receiver.take, many, [four] * 16)) == [[]] * 16
        made = [ban for each in pool.map(Receiver.take, many, [[Told(0, 4, 0)]] * 16) for ban in each]
    assert sum(recorded.new for _, recorded in made) == 1
    assert client.zcard(KEYS.bans) == 1
