"""A forged log cannot ban the world: the doubt on a real Redis, with the counter of a receiver at work."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import redis
from click.testing import CliRunner, Result

from pinban.cli import main
from receiver.failures import Failure
from receiver.store.doubt import Doubt
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS, facts, history, members
from tests.redis.counting import counting, failures, with_rooms, with_rules
from tests.redis.witnessing import StandIn, witness

LIMIT = 20

FORGER, HONEST = "10.0.0.5", "10.0.0.6"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    limited = msgspec.structs.replace(settings.receiver, doubt_above=LIMIT, doubt_for=Milliseconds(60_000))
    return with_rooms(msgspec.structs.replace(settings, receiver=limited), failures=0)


@pytest.fixture
def doubt(settings: Settings, client: redis.Redis) -> Doubt:
    return Doubt(Store(client), settings.receiver)


@pytest.fixture
def unseen(client: redis.Redis) -> Iterator[StandIn]:
    """The RP whose address the forger uses: nobody is connected to it."""
    with witness(client, "rp1", [FORGER], lambda _: "unseen") as answering:
        yield answering


@pytest.fixture
def run(server: RedisServer, tmp_path: Path) -> Callable[..., Result]:
    """`pinban` with the given words."""
    config = tmp_path / "pinban.toml"
    config.write_text(f'[redis]\nurl = "{server.url}"\n', encoding="utf-8")
    return lambda *words: CliRunner().invoke(main, ["-c", str(config), *words])


def victim(number: int, network: str = "198.18") -> Network:
    return Network(f"{network}.{number >> 8}.{number & 255}")


def by(sender: str, some: list[Failure]) -> list[Failure]:
    return [replace(each, rp=sender) for each in some]


def forged(number: int, sender: str = FORGER, network: str = "198.18") -> list[Failure]:
    """Five wrong PINs of each of so many addresses."""
    return [each for n in range(number) for each in by(sender, failures(victim(n, network), 5))]


def trips(doubt: Doubt, network: Network, senders: Iterable[str]) -> bool:
    return bool(doubt.weigh(network, senders).doubted)


def doubted(client: redis.Redis) -> set[str]:
    return {sender for sender, _ in members(client, KEYS.doubted)}


def a_minute_passes(client: redis.Redis, ms: int = 60_001) -> None:
    """All that the doubt remembers is so much older."""
    for key in (KEYS.doubted, *client.scan_iter(KEYS.sender("*").replace("{", r"\{").replace("}", r"\}"))):
        for member, at in members(client, key if isinstance(key, str) else key.decode()):
            client.zadd(key, {member: at - ms})


def test_as_many_bans_as_the_limit_stand_and_those_beyond_are_only_simulated(
    settings: Settings, client: redis.Redis, unseen: StandIn
) -> None:
    with counting(settings) as site:
        site.take(forged(5 * LIMIT))
        assert site.bans() == LIMIT
    assert client.zcard(KEYS.bans) == LIMIT
    assert client.zcard(KEYS.simulated) == 4 * LIMIT
    assert client.get(KEYS.rev) == str(LIMIT).encode()
    assert not facts(client, KEYS.simulation(victim(0)))
    assert json.loads(facts(client, KEYS.simulation(victim(5 * LIMIT - 1)))["evidence"])[0]["rp"] == FORGER


def test_guessers_that_another_sender_tells_of_are_banned_meanwhile(
    settings: Settings, client: redis.Redis, unseen: StandIn
) -> None:
    with counting(settings) as site:
        site.take(forged(2 * LIMIT))
        site.take(by(HONEST, failures(Network("203.0.113.7"), 5)))
    assert "203.0.113.7" in {network for network, _ in members(client, KEYS.bans)}
    assert doubted(client) == {FORGER}


def test_one_word_of_an_observed_sender_among_others_is_enough(
    settings: Settings, client: redis.Redis, unseen: StandIn
) -> None:
    """Else a forger would add four lines to each honest one."""
    with counting(settings) as site:
        site.take(forged(2 * LIMIT))
        site.take([*by(FORGER, failures(Network("203.0.113.7"), 4)), *by(HONEST, failures(Network("203.0.113.7"), 1))])
    assert "203.0.113.7" in {network for network, _ in members(client, KEYS.simulated)}
    assert "203.0.113.7" not in {network for network, _ in members(client, KEYS.bans)}


def test_lines_spread_over_several_senders_count_for_each(doubt: Doubt, client: redis.Redis) -> None:
    verdicts = [trips(doubt, victim(n), (FORGER, HONEST, "10.0.0.7")) for n in range(LIMIT + 1)]
    assert verdicts == [False] * LIMIT + [True]
    assert doubted(client) == {FORGER, HONEST, "10.0.0.7"}


def test_several_receivers_count_together(settings: Settings, client: redis.Redis) -> None:
    several = [Doubt(Store(client), settings.receiver) for _ in range(4)]
    assert sum(trips(several[n % 4], victim(n), [FORGER]) for n in range(3 * LIMIT)) == 2 * LIMIT


def test_the_same_ban_again_counts_once_so_that_a_repeat_is_harmless(doubt: Doubt) -> None:
    assert not any(trips(doubt, victim(1), [FORGER]) for _ in range(3 * LIMIT))


def test_the_same_ban_again_is_as_old_as_it_was(doubt: Doubt, client: redis.Redis) -> None:
    trips(doubt, victim(1), [FORGER])
    a_minute_passes(client, 30_000)
    before = members(client, KEYS.sender(FORGER))
    trips(doubt, victim(1), [FORGER])
    assert members(client, KEYS.sender(FORGER)) == before


def test_bans_at_the_limit_minute_after_minute_trip_nothing(doubt: Doubt, client: redis.Redis) -> None:
    for minute in range(4):
        assert not any(trips(doubt, victim(n, f"198.{minute}"), [FORGER]) for n in range(LIMIT))
        a_minute_passes(client)
    assert doubted(client) == set()


def test_a_sender_that_was_quiet_is_trusted_again_by_itself(doubt: Doubt, client: redis.Redis) -> None:
    for n in range(2 * LIMIT):
        trips(doubt, victim(n), [FORGER])
    a_minute_passes(client, 50_000)
    assert trips(doubt, victim(3 * LIMIT), [FORGER]), "not quiet for long enough"
    a_minute_passes(client)
    assert not trips(doubt, victim(3 * LIMIT + 1), [FORGER])
    assert doubted(client) == set()


def test_a_sender_that_is_not_quiet_stays_doubted(doubt: Doubt, client: redis.Redis) -> None:
    for minute in range(4):
        tripped = [trips(doubt, victim(n, f"198.{minute}"), [FORGER]) for n in range(2 * LIMIT)]
        assert tripped.count(True) >= (LIMIT if minute == 0 else 2 * LIMIT)
        a_minute_passes(client, 30_000)


def test_each_minute_above_the_limit_begins_the_time_anew(settings: Settings, client: redis.Redis) -> None:
    patient = msgspec.structs.replace(settings.receiver, doubt_for=Milliseconds(120_000))
    doubt = Doubt(Store(client), msgspec.structs.replace(settings, receiver=patient).receiver)
    for network in ("198.18", "198.19"):
        assert sum(trips(doubt, victim(n, network), [FORGER]) for n in range(2 * LIMIT)) >= LIMIT
        a_minute_passes(client)
    a_minute_passes(client, 30_000)
    assert trips(doubt, victim(0, "198.20"), [FORGER]), "90 s after the second"
    a_minute_passes(client, 31_000)
    assert not trips(doubt, victim(1, "198.20"), [FORGER])


def test_without_a_doubt_all_are_banned(settings: Settings, client: redis.Redis) -> None:
    without = msgspec.structs.replace(settings, receiver=msgspec.structs.replace(settings.receiver, doubt_above=0))
    with counting(without) as site:
        site.take(forged(3 * LIMIT))
    assert client.zcard(KEYS.bans) == 3 * LIMIT
    assert doubted(client) == set()


def test_a_rule_that_only_simulates_trips_nothing(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rules(settings, pin={"simulate": True})) as site:
        site.take(forged(3 * LIMIT))
    assert doubted(client) == set()


def test_standing_bans_stay_and_the_operator_hears_of_it_and_can_end_it(
    settings: Settings,
    client: redis.Redis,
    unseen: StandIn,
    run: Callable[..., Result],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with counting(settings) as site:
        site.take(forged(2 * LIMIT))
        errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert any(FORGER in said and "pinban trust" in said for said in errors)
        assert len(errors) <= 3
        status = run("status", "--json")
        assert status.exit_code == 1
        said = json.loads(status.output)
        assert FORGER in said["problems"][0]
        assert set(said["doubted"]) == {FORGER}
        rows = json.loads(run("bans", "--json").output)
        assert [row["simulated"] for row in rows].count(False) == LIMIT
        assert [row["simulated"] for row in rows].count(True) == LIMIT
        assert "(simulated)" in run("bans").output
        assert "trusted again" in run("trust", FORGER).output
        assert "was not in doubt" in run("trust", FORGER).output
        assert FORGER not in run("status").output
        site.take(by(FORGER, failures(Network("203.0.113.9"), 5)))
    assert client.zcard(KEYS.bans) == LIMIT + 1
    events = [entry["event"] for entry in history(client) if entry["event"] in {"doubt", "trust"}]
    assert events == ["doubt", "trust"]
    told = run("history").output
    assert f"doubts {FORGER}: more than {LIMIT} bans" in told
    assert f"trusts {FORGER} again" in told


@pytest.mark.parametrize("sender", ["rp1", "10.0.0.5/33", "10.0.0.5 x"])
def test_trusting_nobody_is_refused_in_one_line(run: Callable[..., Result], sender: str) -> None:
    result = run("trust", sender)
    assert result.exit_code == 2
    assert result.output.count("\n") == 1


def test_what_the_doubt_remembers_is_small_and_goes_by_itself(doubt: Doubt, client: redis.Redis) -> None:
    for n in range(20 * LIMIT):
        trips(doubt, victim(n), [FORGER])
    assert client.zcard(KEYS.sender(FORGER)) == LIMIT + 1
    assert 0 < client.pttl(KEYS.sender(FORGER)) <= 60_000
    assert members(client, KEYS.doubted)[0][1] <= Store(client).now_ms() + 60_000
