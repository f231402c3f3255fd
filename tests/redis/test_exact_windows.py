"""Whether an address is banned, and at which failure, is what an independent count of its failures says.

Two receivers count, each with a connection of its own, in every order. The clock of Redis goes on as it likes: what is
old is sent with its age, and time that passes moves all that Redis remembers into the past; nothing is near an edge.
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
from shared.store.store import Store
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS, facts, history, members, plain, text
from tests.redis.counting import with_rules

ADDRESSES = [Network("203.0.113.7"), Network("203.0.113.8"), Network("2001:db8:1:2::/64")]

#: The now of the failures' clock, ms; far from zero, so that they can be old.
NOW_MS = 10**9

#: Ages and pauses are multiples of a minute, and so much more is each failure's age when it is told: it is before the
#: ban that it leads to, also when it is told again with its age not known to the ms. After each of up to BATCHES
#: batches BETWEEN_MS pass, so that the next is after the ban. No age comes near the ends of windows and bans by that.
UNDER_WAY_MS, BETWEEN_MS, BATCHES = 1_500, 3_000, 12
FINDTIME_MS, LONG_FINDTIME_MS, BANTIME_MS = 348_000, 1_548_000, 408_000


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
    """Keeps every failure for ever and looks at all of them each time. Knows nothing of Redis, keys or scripts.

    What happened before a ban counts no more. A ban by the long window counts both windows from zero, one by the short
    window that alone.
    """

    maxretry: int
    long_maxretry: int
    ages: dict[tuple[int, int], int] = field(default_factory=dict)  #: (address, id) -> ms
    zeroes: dict[tuple[int, str], int] = field(
        default_factory=dict
    )  #: (address, window) -> ms since it began from zero
    bans: dict[int, int] = field(default_factory=dict)  #: address -> ms since its ban

    def passes(self, ms: int) -> None:
        self.ages = {one: age + ms for one, age in self.ages.items()}
        self.zeroes = {one: age + ms for one, age in self.zeroes.items()}
        self.bans = {address: age + ms for address, age in self.bans.items() if age + ms < BANTIME_MS}

    def told(self, line: Told) -> Told:
        """The line with its true age: a repeat is as old as what it repeats, and what is new is after the last ban."""
        banned = [age for (address, _), age in self.zeroes.items() if address == line.address]
        age_ms = UNDER_WAY_MS if line.age_ms > min(banned, default=line.age_ms) else line.age_ms
        return Told(line.address, line.id, self.ages.setdefault((line.address, line.id), age_ms), line.rp)

    def counts(self, address: int) -> dict[str, int]:
        """How many failures count in each window that there is."""
        lengths = {"pin": FINDTIME_MS} | ({"pin.long": LONG_FINDTIME_MS} if self.long_maxretry else {})
        ages = [age for (whose, _), age in self.ages.items() if whose == address]
        return {
            window: sum(age < min(length, self.zeroes.get((address, window), length)) for age in ages)
            for window, length in lengths.items()
        }

    def verdict(self, address: int) -> str | None:
        """By which window the address is to be banned now, if it is not."""
        limits = {"pin": self.maxretry, "pin.long": self.long_maxretry}
        return next((window for window, n in self.counts(address).items() if n >= limits[window]), None)

    def judge(self, address: int) -> str | None:
        """The same, and what follows from it; None for who is banned already."""
        verdict = self.verdict(address)
        if verdict:
            over = self.counts(address).get("pin.long", 0) >= self.long_maxretry > 0
            self.zeroes |= dict.fromkeys(
                [(address, window) for window in (["pin", "pin.long"] if over else ["pin"])], 0
            )
            if address in self.bans:
                return None
            self.bans[address] = 0
        return verdict


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
                self._counts.reset(verdict.network, verdict.forgives, long=verdict.long)
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
    for key in map(plain, client.keys("*")):
        if key == KEYS.bans or key.startswith("pinban:window:"):
            for member, _ in members(client, key):
                client.zincrby(key, -ms, member)
        if (ttl_ms := client.pttl(key)) > 0:
            client.pexpire(key, ttl_ms - ms)


pauses = st.just(0) | st.integers(0, 30).map(lambda n: n * 60_000)
ages = pauses.map(lambda ms: ms + UNDER_WAY_MS)
lines = st.builds(Told, st.integers(0, 2), st.integers(0, 7), ages, st.integers(1, 2))
bursts = st.builds(
    lambda address, first, number, age: [Told(address, first + n, age) for n in range(number)],
    st.integers(0, 2), st.integers(0, 40), st.integers(2, 7), ages,
)  # fmt: skip
batches = st.builds(Batch, pauses, st.integers(0, 1), st.lists(lines, min_size=1, max_size=5) | bursts)
rules = st.builds(lambda short, long: Rule(maxretry=short, long_maxretry=long and short + long),
                  st.integers(1, 8), st.integers(0, 8))  # fmt: skip

quietly = hypothesis_settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@hypothesis_settings(quietly, max_examples=250)
@given(st.lists(batches, max_size=BATCHES), rules)
def test_an_address_is_banned_at_the_failure_that_an_independent_count_says(
    settings: Settings, clients: list[redis.Redis], story: list[Batch], rule: Rule
) -> None:
    clients[0].flushall()
    both = receivers(settings, clients, rule)
    oracle = Oracle(rule.maxretry, rule.long_maxretry)
    for batch in story:
        oracle.passes(batch.pause_ms)
        into_the_past(clients[0], batch.pause_ms)
        told = [oracle.told(line) for line in batch.lines]
        found = {v.network: v.rule for v, recorded in both[batch.receiver].take(told) if recorded.new}
        asked = sorted({line.address for line in told})
        assert found == {ADDRESSES[n]: why for n in asked if (why := oracle.judge(n))}
        for n in asked:
            counts = {name: text(clients[0], KEYS.count(ADDRESSES[n], name)) or "0" for name in oracle.counts(n)}
            assert counts == {name: str(number) for name, number in oracle.counts(n).items()}, "what people read"
        oracle.passes(BETWEEN_MS)
        into_the_past(clients[0], BETWEEN_MS)
    now_ms = Store(clients[0]).now_ms()
    standing = {network for network, until_ms in members(clients[0], KEYS.bans) if until_ms > now_ms}
    assert standing == {ADDRESSES[n] for n in oracle.bans}


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
    together = threading.Barrier(2, timeout=5)

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
