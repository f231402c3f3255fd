"""Banned addresses that get through, on a real Redis: what is a leak, what only looks like one, and who hears of it."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, replace

import pytest
import redis

from receiver.failures import Failure
from receiver.store import leaks as module
from receiver.store.leaks import Leaks, explained
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.ledger.changes import Ledger, NewBan
from shared.nodes import NodeWriter
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.process import wait_until
from tests.redis.conftest import KEYS, Run, as_json, members
from tests.redis.counting import counting, failures

#: All lengths of time are so many times as long as they say, so that the test's own time is none.
SCALE = 100

A, B = Network("203.0.113.7"), Network("203.0.113.8")

RP = "10.0.0.11"


@dataclass
class Watch:
    """A receiver that looks for leaks; time passes faster when it is told to."""

    leaks: Leaks
    client: redis.Redis
    behind_ms: int = 0  #: this host's clock against Redis'

    @property
    def now_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000 - self.behind_ms

    def pass_ms(self, ms: int) -> None:
        """All that is remembered is so much older."""
        ms *= SCALE
        self.leaks._judged_after_ms -= ms
        for key in (KEYS.bans, KEYS.leaks, KEYS.suspects):
            for member, at in members(self.client, key):
                self.client.zadd(key, {member: at - ms})
        for key in self.client.scan_iter("{pinban}:ban:*"):
            self.client.hincrby(key, "since", -ms)

    def sees(self, network: Network = A, *, took_ms: int = 5, waited_ms: int = 0, rp: str = RP, **facts: object) -> int:
        """A failure that came so long ago; how many leaks were noted."""
        took_ms *= SCALE if took_ms > 0 else 1
        one = Failure(network, "pin", "id", rp, "meet", self.now_ms - waited_ms * SCALE, took_ms=took_ms)
        return len(self.leaks.note([replace(one, **facts)], self.now_ms))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_LATE_MS", "_APART_MS", "_LONGEST_MS", "_KEPT_MS", "_TOLD_MS", "_STEP_MS", "_SLOW_MS"):
        monkeypatch.setattr(module, name, getattr(module, name) * SCALE)


@pytest.fixture
def watch(settings: Settings, client: redis.Redis) -> Watch:
    """One that knows Redis' clock."""
    watch = Watch(Leaks(Store(client), settings), client)
    watch.sees(B)
    return watch


def ban(ledger: Ledger, network: Network = A, *, simulate: bool = False) -> None:
    assert ledger.ban(NewBan(network, 300_000 * SCALE, "pin", "[]", "me", simulate=simulate)).new


def test_a_banned_address_that_goes_on_guessing_is_a_leak(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    watch.pass_ms(10_000)
    assert watch.sees() == 0, "one may have waited somewhere"
    watch.pass_ms(4_000)
    assert watch.sees() == 1
    [leak] = watch.leaks.standing()
    assert (leak.sender, leak.network) == (RP, A)
    assert 14_000 <= leak.after_ms // SCALE < 15_000


def test_guesses_of_the_first_seconds_are_none(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    for _ in range(5):
        watch.pass_ms(550)
        assert watch.sees() == 0
    assert not watch.client.exists(KEYS.suspects)


def test_a_guess_that_began_before_the_ban_is_none_however_late_it_is_answered(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    for _ in range(10):
        watch.pass_ms(4_000)
        assert watch.sees(took_ms=45_000) == 0
    assert not watch.client.exists(KEYS.suspects)


def test_a_line_that_waited_for_redis_is_judged_by_when_it_came(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    for _ in range(3):
        watch.pass_ms(10_000)
        assert watch.sees(waited_ms=28_000) == 0
    assert not watch.client.exists(KEYS.suspects)


def test_guesses_until_an_enforcer_has_started_are_none(watch: Watch, ledger: Ledger) -> None:
    """It was stopped when the ban was made, and started three seconds later."""
    ban(ledger)
    watch.pass_ms(2_800)
    for _ in range(3):
        assert watch.sees() == 0
        watch.pass_ms(550)
    assert watch.client.exists(KEYS.suspects)
    assert watch.leaks.standing() == []


def test_lines_that_were_read_late_and_all_at_once_are_none(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    watch.pass_ms(10_000)
    assert [watch.sees(took_ms=took_ms) for took_ms in (5, 900, 40, 5)] == [0, 0, 0, 0]
    watch.pass_ms(500)
    assert watch.sees() == 0
    assert watch.leaks.standing() == []


def test_a_line_that_does_not_say_how_long_its_request_took_may_be_a_minute_old(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    for ms, noted in ((62_000, 0), (2_000, 0), (4_000, 1)):
        watch.pass_ms(ms)
        assert watch.sees(took_ms=-1) == noted
    assert len(watch.leaks.standing()) == 1


def test_the_ban_of_a_wider_network_counts_where_it_is_one_of_the_failures_levels(watch: Watch, ledger: Ledger) -> None:
    inside, site = Network("2001:db8:1:2::/64"), Network("2001:db8:1::/48")
    ban(ledger, site)
    for _ in range(2):
        watch.pass_ms(5_000)
        watch.sees(inside)
    assert watch.leaks.standing() == []
    for _ in range(2):
        watch.pass_ms(5_000)
        watch.sees(inside, levels=(56, 48))
    assert [leak.network for leak in watch.leaks.standing()] == [site]


def test_whom_nobody_bans_and_who_is_banned_only_in_simulation_is_none(watch: Watch, ledger: Ledger) -> None:
    ban(ledger, A, simulate=True)
    for _ in range(3):
        watch.pass_ms(10_000)
        assert watch.sees(A) == watch.sees(B) == 0


def test_failures_that_ban_nobody_are_none(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    for _ in range(3):
        watch.pass_ms(10_000)
        assert watch.sees(rule="prompt") == watch.sees(rule="gone with the old settings") == 0


def test_after_an_unban_there_is_no_leak_and_a_new_ban_begins_anew(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    for _ in range(2):
        watch.pass_ms(5_000)
        watch.sees()
    assert watch.leaks.standing()
    ledger.unban(A, "asked", "me")
    assert watch.leaks.standing() == []
    assert watch.sees() == 0
    ban(ledger)
    assert watch.leaks.standing() == []
    watch.pass_ms(5_000)
    assert watch.sees() == 0, "what was suspected before the new ban is forgotten"
    assert watch.leaks.standing() == []
    watch.pass_ms(4_000)
    assert watch.sees() == 1


def test_a_ban_that_is_over_is_none(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    for _ in range(2):
        watch.pass_ms(140_000)
        watch.sees()
    watch.pass_ms(30_000)
    assert watch.sees() == 0
    assert watch.leaks.standing() == []


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000, 4_000], ids=["forward", "back", "a little"])
def test_a_clock_that_was_set_makes_none(
    watch: Watch, settings: Settings, client: redis.Redis, ledger: Ledger, step_ms: int
) -> None:
    """The guesses were under way when the address was banned; two receivers hear of them."""
    other = Watch(Leaks(Store(client), settings), client)
    other.sees(B)
    ban(ledger)
    watch.behind_ms = other.behind_ms = step_ms * SCALE
    watch.pass_ms(step_ms)  # for Redis
    for each in (watch, other, watch, other):
        assert each.sees() == 0
        watch.pass_ms(3_100)
    assert watch.leaks.standing() == []
    watch.client.delete(KEYS.bans)
    watch.pass_ms(10_000)
    ban(ledger)
    for _ in range(2):
        watch.pass_ms(5_000)
        watch.sees()
    assert watch.leaks.standing() != []


def test_two_receivers_find_it_together_and_two_rps_are_told_apart(
    watch: Watch, settings: Settings, client: redis.Redis, ledger: Ledger
) -> None:
    other = Watch(Leaks(Store(client), settings), client)
    other.sees(B)
    ban(ledger)
    watch.pass_ms(10_000)
    assert watch.sees() == other.sees(rp="10.0.0.12") == 0
    watch.pass_ms(4_000)
    assert other.sees() == 1
    assert watch.sees(rp="10.0.0.12") == 1
    assert {leak.sender for leak in watch.leaks.standing()} == {RP, "10.0.0.12"}


def test_a_leak_that_stopped_is_told_for_a_minute(watch: Watch, ledger: Ledger) -> None:
    ban(ledger)
    for _ in range(2):
        watch.pass_ms(5_000)
        watch.sees()
    watch.pass_ms(50_000)
    assert len(watch.leaks.standing()) == 1
    watch.pass_ms(10_000)
    assert watch.leaks.standing() == []
    assert 0 < watch.client.pttl(KEYS.leaks) <= 120_000 * SCALE
    assert 0 < watch.client.pttl(KEYS.suspects) <= 120_000 * SCALE


def test_at_most_a_hundred_are_remembered_and_the_log_tells_once_a_minute_for_each_rp(
    watch: Watch, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    crowd = [Network(f"198.18.0.{n}") for n in range(150)]
    for each in crowd:
        ban(ledger, each)
    some = [Failure(each, "pin", "id", RP, "meet", watch.now_ms, took_ms=5) for each in crowd]
    for _ in range(4):
        watch.pass_ms(5_000)
        watch.leaks.note(some, watch.now_ms)
    assert watch.client.zcard(KEYS.leaks) == watch.client.zcard(KEYS.suspects) == 100
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert f" still gets through {RP}, 16m " in told[0]  # 10 s in this test's time
    assert " after its ban (and 99 more): " in told[0]


@pytest.mark.parametrize("bad", ["no network", f"{RP} ", f"{RP} 203.0.113.9", f"{RP} {A} x"])
def test_what_a_person_wrote_into_the_keys_is_no_leak(watch: Watch, ledger: Ledger, bad: str) -> None:
    ban(ledger)
    watch.client.zadd(KEYS.leaks, {bad: Store(watch.client).now_ms()})
    assert watch.leaks.standing() == []
    watch.client.delete(KEYS.ban(A))
    watch.client.set(KEYS.ban(A), "x")
    assert watch.sees() == 0


def enforcer(client: redis.Redis, backend: str) -> None:
    NodeWriter(Store(client), "rp1", "i").write({"kind": "enforcer", "backend": backend, "applied_rev": 1})


def test_status_and_doctor_tell_of_it_in_the_same_words_and_not_where_nothing_is_enforced(
    watch: Watch, ledger: Ledger, run: Run
) -> None:
    ban(ledger)
    for _ in range(2):
        watch.pass_ms(20_000)
        watch.sees()
    enforcer(watch.client, "iptables")
    report = as_json(run("status", "--json"), 1)
    [leak] = watch.leaks.standing()
    assert report["leaks"] == [{"sender": RP, "network": A, "after_ms": leak.after_ms}]
    [told] = [problem for problem in report["problems"] if A in problem]
    assert told in explained([leak])
    assert told.startswith(
        f"{A} still gets through {RP}, {Milliseconds(leak.after_ms // 1_000 * 1_000)} after its ban: "
    )
    for word in ("load balancer", "enforcer.ports", "redirected", "HTTP/3", "another rule", "Forged"):
        assert word in told
    enforcer(watch.client, "dry-run")
    assert as_json(run("status", "--json"), 1)["leaks"] == []


def test_the_counter_notes_them_behind_the_bans(
    settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five guesses are a ban; those that begin after it are a leak, as soon as the times are so short."""
    monkeypatch.setattr(module, "_LATE_MS", 0)
    monkeypatch.setattr(module, "_APART_MS", 0)
    with counting(settings) as site:

        def guess_on() -> bool:
            site.take([replace(each, took_ms=0) for each in failures(A, 5)])
            return bool(client.exists(KEYS.leaks))

        wait_until(guess_on, "it is noted")
    assert [member for member, _ in members(client, KEYS.leaks)] == [f"rp1 {A}"]
