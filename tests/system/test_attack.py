"""How many guesses an attack gets answered, and that other clients notice nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from bench.attack import IN_FLIGHT, JOINS, attack
from tests.lab.clients import PIN, Bystander, pin_header, token_target
from tests.lab.guesser import Guesser
from tests.lab.http1 import Connection
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import (
    any_drops,
    await_ban,
    counted,
    guesses,
    ledger,
    new_source,
    number,
    unanswered,
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=4) as lab:
        yield lab


def is_counted(lab: Lab, address: str, count: int) -> bool:
    return counted(lab.redis, address) == count


def redis_cli(lab: Lab, *words: str) -> str:
    return lab.core.namespace.run(["redis-cli", "-s", str(lab.redis.socket), *words]).stdout.strip()


def test_an_attack_at_full_speed_is_over_before_what_was_in_flight_was_answered_ten_times() -> None:
    """`make bench-attack` holds how much less it is; without bans there are thousands of answers. The bystander, who
    joins all the while, is never refused.
    """
    outcome = attack()
    assert outcome.starved
    assert 0 < outcome.received < 10 * IN_FLIGHT
    assert outcome.failures == 0


def test_slow_guesses_over_four_proxies_are_one_count_and_the_fifth_is_a_ban_on_all(lab: Lab) -> None:
    source = new_source(lab, 101)
    for turn in range(4):
        proxy = lab.rps[turn].host.outside
        answer = lab.attacker.namespace.call(partial(ask, proxy, source, "999999"))
        assert answer == 403
        wait_until(partial(is_counted, lab, source, turn + 1), f"guess {turn + 1} is counted")
        key = f"pinban:count:{{{source}}}:pin"
        assert redis_cli(lab, "GET", key) == str(turn + 1)
        assert 0 < int(redis_cli(lab, "TTL", key)) <= 300
    assert source not in ledger(lab.redis)
    assert lab.attacker.namespace.call(partial(ask, lab.rps[0].host.outside, source, "999999")) == 403
    await_ban(lab, source)
    assert unanswered(lab, source)
    assert redis_cli(lab, "HGET", f"{{pinban}}:ban:{source}", "rule") == "pin"
    proxies = {rp.host.inside for rp in lab.rps}
    evidence = redis_cli(lab, "HGET", f"{{pinban}}:ban:{source}", "evidence")
    assert all(proxy in evidence for proxy in proxies)


def test_the_right_pin_opens_nothing_for_a_banned_address(lab: Lab) -> None:
    source = new_source(lab, 102)
    guesses(lab, source, range(5))
    await_ban(lab, source)
    with pytest.raises(OSError, match="timed out"):
        lab.attacker.namespace.call(partial(ask, lab.rps[1].host.outside, source, PIN, timeout=0.3))


def test_a_bystander_behind_the_same_proxies_is_served_while_an_attacker_is_dropped(lab: Lab) -> None:
    bystander = Bystander(lab.addresses(), interval=0.1, prompt=False)
    visiting = lab.bystander.namespace.start(bystander.run)
    loot = lab.attacker.namespace.call(Guesser(lab.addresses(), connections=8, starved_after=1).run)
    served = bystander.visits.joins
    wait_until(lambda: bystander.visits.joins >= served + JOINS, f"{JOINS} joins after the attack")
    bystander.stop()
    visits = visiting.result()
    assert loot.starved
    assert served > 0, "and during it"
    assert visits.failures == []
    assert ledger(lab.redis) >= {lab.attacker.outside}
    assert not any_drops(lab, lab.bystander.outside)


def test_fifty_joins_from_one_address_are_no_failure(lab: Lab) -> None:
    """Each with its prompt, as browsers make it; judged when the receiver has seen all that the node answered."""
    statuses = lab.bystander.namespace.call(partial(join, lab.addresses(), 50))
    assert statuses == [(403, 200)] * 50
    truth = lab.node.truth()
    assert truth["prompt"] == 50
    for seen, told in (("joined", "joined"), ("pin_prompt", "prompt")):  # by two workers, in any order
        wait_until(lambda: number(lab.redis, "rx1", seen) == truth[told], f"the receiver has seen each {told}")  # noqa: B023
    assert counted(lab.redis, lab.bystander.outside) == 0
    assert lab.bystander.outside not in ledger(lab.redis)


def ask(proxy: str, source: str, pin: str, *, timeout: float = 2.0) -> int:
    with Connection(proxy, source=source, timeout=timeout) as connection:
        answer = connection.ask("POST", token_target(), pin_header(pin))
        return answer.status if answer else 0


def join(proxies: list[str], times: int) -> list[tuple[int, int]]:
    statuses = []
    for turn in range(times):
        with Connection(proxies[turn % len(proxies)]) as connection:
            prompt = connection.ask("POST", token_target())
            joined = connection.ask("POST", token_target(), pin_header(PIN))
            statuses.append((prompt.status if prompt else 0, joined.status if joined else 0))
    return statuses
