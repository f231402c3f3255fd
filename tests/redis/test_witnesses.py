"""Bans by a doubted sender's lines, with witnesses that say this or that: a receiver's counter on a real Redis."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import ExitStack

import msgspec
import pytest
import redis
from click.testing import Result

from receiver.failures import Failure
from receiver.store import Witnesses
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.ledger import Ledger
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.process import wait_until
from tests.redis.conftest import KEYS, facts, history, members
from tests.redis.counting import counting, failures, with_rooms, with_rules
from tests.redis.test_doubt import FORGER, HONEST, LIMIT, by, forged, victim
from tests.redis.witnessing import describe, witness

GUESSER = Network("203.0.113.7")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    limited = msgspec.structs.replace(settings.receiver, doubt_above=LIMIT, doubt_for=Milliseconds(60_000))
    return with_rooms(msgspec.structs.replace(settings, receiver=limited), failures=0)


def banned(client: redis.Redis) -> set[str]:
    return {network for network, _ in members(client, KEYS.bans)}


def simulated(client: redis.Redis) -> set[str]:
    return {network for network, _ in members(client, KEYS.simulated)}


def left_ms(client: redis.Redis, network: str) -> int:
    return dict(members(client, KEYS.bans))[network] - Store(client).now_ms()


def rule(client: redis.Redis, network: str) -> str:
    return facts(client, KEYS.ban(Network(network)))["rule"]


def guesses(network: Network = GUESSER, sender: str = FORGER) -> list[Failure]:
    return by(sender, failures(network, 5))


def sees(*networks: str) -> Callable[[str], str]:
    """What the kernel of an RP to which these are connected says."""
    return lambda network: "seen" if network in networks else "unseen"


def test_a_guesser_whom_a_kernel_sees_is_banned_though_a_forger_opened_the_doubt(
    settings: Settings, client: redis.Redis
) -> None:
    """The doubt is no way out: as long as ever, and under the rule's own name."""
    with witness(client, "rp1", [FORGER], sees(GUESSER)), counting(settings) as site:
        site.take(forged(2 * LIMIT))
        assert client.zcard(KEYS.bans) == LIMIT
        site.take(guesses())
    assert GUESSER in banned(client)
    assert rule(client, GUESSER) == "pin"
    assert left_ms(client, GUESSER) > 60_000
    assert client.zcard(KEYS.simulated) == LIMIT


def test_a_botnet_whose_addresses_are_all_connected_is_banned_whole(settings: Settings, client: redis.Redis) -> None:
    with witness(client, "rp1", [FORGER], lambda _: "seen"), counting(settings) as site:
        site.take(forged(5 * LIMIT))
        wait_until(lambda: site.bans() == 5 * LIMIT, "all are told of")
    assert client.zcard(KEYS.bans) == 5 * LIMIT
    assert not simulated(client)


def test_it_is_enough_that_another_rp_sees_the_guesser(settings: Settings, client: redis.Redis) -> None:
    with ExitStack() as stack:
        stack.enter_context(witness(client, "rp1", [FORGER], lambda _: ""))
        stack.enter_context(witness(client, "rp2", [HONEST], sees(GUESSER)))
        site = stack.enter_context(counting(settings))
        site.take(forged(LIMIT))
        site.take(guesses())
    assert rule(client, GUESSER) == "pin"


@pytest.mark.parametrize("why", ["silent", "unknown", "dead", "nobody owns the address", "of an older version"])
def test_where_no_kernel_can_tell_a_ban_is_made_but_short_and_loud(
    settings: Settings, client: redis.Redis, run: Callable[..., Result], caplog: pytest.LogCaptureFixture, why: str
) -> None:
    with ExitStack() as stack:
        match why:
            case "silent":
                stack.enter_context(witness(client, "rp1", [FORGER], lambda _: ""))
            case "unknown":
                stack.enter_context(witness(client, "rp1", [FORGER], lambda _: "unknown"))
                client.hset(KEYS.node("rp1"), "witness_trouble", "the kernel is shy")
            case "dead":
                describe(client, "rp1", [FORGER], silent_s=60)
            case "nobody owns the address":
                stack.enter_context(witness(client, "rp2", [HONEST], lambda _: "unknown"))
            case _:
                describe(client, "rp1", [])
        site = stack.enter_context(counting(settings))
        site.take(forged(LIMIT))
        assert {rule(client, network) for network in banned(client)} == {"pin"}
        site.take([*guesses(), *guesses(Network("203.0.113.8"))])
        for network in (GUESSER, "203.0.113.8"):
            assert rule(client, network) == "pin.brief"
            assert 0 < left_ms(client, network) <= 60_000
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert sum("no enforcer of that host can say" in each for each in told) == 1, "sparingly"
        status = json.loads(run("status", "--json").output)
        assert status["judged"] == {FORGER: {"unknown": 2}}
        problem = status["problems"][0]
        assert FORGER in problem
        assert "2 made for a minute at most" in problem
        remedies = {"unknown": "rp1: the kernel is shy", "dead": "rp1 is silent", "silent": "was too slow"}
        assert remedies.get(why, "start one there") in problem
    assert {entry["rule"] for entry in history(client) if entry.get("network") == GUESSER} == {"pin.brief"}


def test_a_forger_gains_nothing_by_an_address_that_no_rp_owns(settings: Settings, client: redis.Redis) -> None:
    with ExitStack() as stack:
        for rp, address in (("rp2", HONEST), ("rp3", "10.0.0.7")):
            stack.enter_context(witness(client, rp, [address], sees(GUESSER)))
        site = stack.enter_context(counting(settings))
        site.take(forged(2 * LIMIT))
        assert client.zcard(KEYS.bans) == LIMIT
        site.take(guesses())
    assert rule(client, GUESSER) == "pin"
    assert client.zcard(KEYS.simulated) == LIMIT


def test_what_became_of_the_bans_is_told_and_forgotten_when_the_sender_is_trusted(
    settings: Settings, client: redis.Redis, run: Callable[..., Result]
) -> None:
    with witness(client, "rp1", [FORGER], sees(GUESSER)), counting(settings) as site:
        site.take(forged(LIMIT + 3))
        site.take(guesses())
    told = run("status").output
    assert "1 bans made, 3 only simulated because nobody was connected, 0 made for a minute" in " ".join(told.split())
    run("trust", FORGER)
    assert not client.exists(KEYS.judged(FORGER))


def test_an_account_of_another_rp_cannot_deny_lines(settings: Settings, client: redis.Redis) -> None:
    """It says that it owns the address, and that it saw nobody. The RP itself cannot tell, or did see the guesser."""
    other = Network("203.0.113.8")
    with ExitStack() as stack:
        stack.enter_context(witness(client, "rp1", [FORGER], lambda n: "seen" if n == other else "unknown"))
        stack.enter_context(witness(client, "rp2", [HONEST, FORGER], lambda _: "unseen"))
        site = stack.enter_context(counting(settings))
        site.take(forged(LIMIT))
        site.take([*guesses(), *guesses(other)])
    assert (rule(client, GUESSER), rule(client, other)) == ("pin.brief", "pin")


@pytest.mark.parametrize("nonsense", ["another type", "a long list", "no text"])
def test_what_an_rps_account_writes_stops_no_verdict(settings: Settings, client: redis.Redis, nonsense: str) -> None:
    with witness(client, "rp1", [FORGER], sees(GUESSER)), counting(settings) as site:
        describe(client, "rp2", [HONEST])
        match nonsense:
            case "another type":
                client.set(KEYS.witness("rp2"), "x")
            case "a long list":
                client.hset(KEYS.node("rp2"), "addresses", " ".join(f"10.{n >> 8}.{n & 255}.1" for n in range(50_000)))
            case _:
                client.hset(KEYS.node("rp2"), "addresses", b"\xff\0 \xfe")
        site.take(forged(LIMIT + 1))
        site.take(guesses())
    assert rule(client, GUESSER) == "pin"
    assert len(simulated(client)) == 1


@pytest.mark.parametrize("sender", ["local", "127.0.0.1", "127.8.0.9", "::1"])
def test_lines_that_cannot_come_from_afar_are_never_doubted(
    settings: Settings, client: redis.Redis, sender: str
) -> None:
    with counting(settings) as site:
        site.take(forged(3 * LIMIT, sender))
    assert client.zcard(KEYS.bans) == 3 * LIMIT
    assert not client.exists(KEYS.doubted)


def test_the_question_is_about_all_failures_of_the_window(settings: Settings, client: redis.Redis) -> None:
    """Else a guesser who can also forge a line, after his connection is closed, would have his guesses forgotten."""
    with witness(client, "rp1", [FORGER], lambda _: "unseen") as answering, counting(settings) as site:
        site.take(forged(LIMIT))
        site.take(by(FORGER, [*failures(GUESSER, 4, age_ms=30_000), *failures(GUESSER, 1)]))
    [question] = [each for each in answering.asked if each.network == GUESSER]
    assert 30_000 <= question.age_ms < 60_000


def test_an_old_answer_is_none(settings: Settings, client: redis.Redis) -> None:
    """Nobody was connected a while ago; now he is."""
    said = ["unseen", "seen"]
    with witness(client, "rp1", [FORGER], lambda n: said.pop(0) if n == GUESSER else "unseen"):  # noqa: SIM117
        with counting(settings) as site:
            site.take(forged(LIMIT))
            site.take(guesses())
            assert GUESSER in simulated(client)
            wait_until(lambda: not site.counter._hearing.open, "no early question is open")
            site.take(guesses())
    assert GUESSER in banned(client)


def test_a_guesser_is_asked_about_before_he_is_at_the_limit(settings: Settings, client: redis.Redis) -> None:
    """While somebody is doubted: then his ban need not wait for the answer."""
    with witness(client, "rp1", [FORGER], sees(GUESSER)) as answering, counting(settings) as site:
        site.take(by(FORGER, failures(GUESSER, 1)))
        assert not answering.asked, "nobody is doubted"
        site.take(forged(LIMIT + 1))
        site.take(by(FORGER, failures(GUESSER, 1)))
        wait_until(lambda: GUESSER in [each.network for each in answering.asked], "it is asked")
        wait_until(lambda: not site.counter._hearing.open, "it is answered")
        before = len(answering.asked)
        site.take(by(FORGER, failures(GUESSER, 3)))
        assert len(answering.asked) == before, "and not again"
    assert rule(client, GUESSER) == "pin"


def test_a_ban_that_waits_is_not_lost_with_the_worker(settings: Settings, client: redis.Redis) -> None:
    with witness(client, "rp1", [FORGER], lambda _: ""):
        with counting(settings) as site:
            site.take(forged(LIMIT))
            site.put(guesses())
            wait_until(lambda: site.counter._hearing.waits(GUESSER), "it waits")
            site.counter._hearing.end(GUESSER)  # as if the worker had died
        assert GUESSER not in banned(client)
        with counting(settings) as site:
            site.take(by(FORGER, failures(GUESSER, 1)))
    assert GUESSER in banned(client)


def test_who_is_let_in_while_the_witnesses_think_is_not_banned(
    settings: Settings, client: redis.Redis, run: Callable[..., Result]
) -> None:
    def let_in(network: str) -> str:
        if network == GUESSER:
            run("allow", GUESSER)
            return "seen"
        return "unseen"

    with witness(client, "rp1", [FORGER], let_in), counting(settings) as site:
        site.take(forged(LIMIT))
        site.take(guesses())
    assert GUESSER not in banned(client)


def test_a_rule_that_only_simulates_asks_nobody(settings: Settings, client: redis.Redis) -> None:
    with witness(client, "rp1", [FORGER], sees(GUESSER)) as answering:  # noqa: SIM117
        with counting(with_rules(settings, scan={"simulate": True, "maxretry": 5})) as site:
            site.take(forged(LIMIT))
            site.take(by(FORGER, failures(GUESSER, 5, rule="scan")))
    assert GUESSER in simulated(client)
    assert not answering.asked


def test_more_bans_than_may_wait_are_made_briefly(
    settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.hearing._MOST", 3)
    with witness(client, "rp1", [FORGER], lambda _: ""), counting(settings) as site:
        site.take(forged(LIMIT))
        site.take([each for n in range(9) for each in guesses(victim(n, "198.19"))])
    rules = [rule(client, victim(n, "198.19")) for n in range(9)]
    assert rules == ["pin.brief"] * 9


def test_addresses_of_a_node_that_is_no_enforcer_do_not_count(client: redis.Redis) -> None:
    store = Store(client)
    describe(client, "rp1", [FORGER])
    client.hset(KEYS.node("rx1"), mapping={"kind": "receiver", "addresses": FORGER, "seen": store.now_ms()})
    client.sadd(KEYS.nodes, "rx1")
    assert [each.name for each in Witnesses(store, Ledger(store)).rps()] == ["rp1"]
