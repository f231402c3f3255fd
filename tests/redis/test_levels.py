"""Wider networks: whoever owns one is held as a whole, and nobody is banned for one neighbour or for few mistakes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

import pytest
import redis

from pinban.deployment.operator import Operator
from receiver.failures import Failure
from receiver.store.counters import Counters
from shared.addresses import Network
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.process import wait_until
from tests.redis.conftest import KEYS, Run, as_json, facts, members
from tests.redis.counting import Counting, counting, failure, with_rooms, with_rules

NARROW, WIDE = Network("2001:db8:1::/56"), Network("2001:db8:1::/48")


@pytest.fixture
def site(settings: Settings) -> Iterator[Counting]:
    with counting(with_rooms(settings, failures=0)) as site:
        yield site


def clients(first: int = 0, *, network: str = "2001:db8:1") -> Iterator[Network]:
    """The /64s of a /48, each in another /56 as long as there are some."""
    return (Network(f"{network}:{n << 8 & 0xFFFF | n >> 8:x}::/64") for n in range(first + 1, 2**16))


def failing(networks: Iterator[Network], number: int, *, rule: str = "pin", times: int = 1) -> list[Failure]:
    """Failures of so many clients, each so often."""
    return [
        replace(failure(network, rule=rule), levels=(56, 48))
        for network in islice(networks, number)
        for _ in range(times)
    ]


def joining(networks: Iterator[Network], number: int, age_ms: int = 0) -> list[Failure]:
    """Joins of so many clients."""
    some = failing(networks, number)
    return [replace(each, joined=True, received_ms=each.received_ms - age_ms) for each in some]


def join(site: Counting, client: redis.Redis, number: int, age_ms: int = 0) -> None:
    """So many clients join; returns when it is noted, which waits until no failure does."""
    site.take(joining(clients(), number, age_ms))
    wait_until(lambda: client.zcard(KEYS.joined(WIDE)) >= min(number, 40), "the joins are noted")


def banned(client: redis.Redis) -> set[str]:
    return {network for network, _ in members(client, KEYS.bans)}


def singly(site: Counting, some: Sequence[Failure]) -> None:
    """As they come when there is no flood."""
    for each in some:
        site.take([each])


@pytest.mark.parametrize("together", [True, False])
def test_forty_clients_of_one_48_are_a_ban_of_all_of_it(site: Counting, client: redis.Redis, together: bool) -> None:
    take = site.take if together else lambda some: singly(site, some)
    take(failing(clients(), 39))
    assert banned(client) == set()
    take(failing(clients(39), 1))
    assert banned(client) == {WIDE}
    assert facts(client, KEYS.ban(WIDE))["rule"] == "pin"
    assert '"client": "2001:db8:1:100::/56", "rp": "rp1", "alias": "meet"' in facts(client, KEYS.ban(WIDE))["evidence"]


def test_of_two_levels_the_one_that_is_passed_is_banned(site: Counting, client: redis.Redis) -> None:
    neighbours = (Network(f"2001:db8:1:{n:x}::/64") for n in range(256))
    site.take(failing(neighbours, 14))
    assert banned(client) == set()
    site.take(failing(neighbours, 1))
    assert banned(client) == {NARROW}


def test_a_ban_of_a_wider_network_counts_it_from_zero(site: Counting, client: redis.Redis) -> None:
    site.take(failing(clients(), 40))
    assert client.get(KEYS.count(WIDE, "pin")) is None
    site.take(failing(clients(40), 39))
    assert client.get(KEYS.count(WIDE, "pin")) == b"39"


@pytest.mark.parametrize("together", [True, False])
def test_one_client_alone_has_no_neighbour_banned_however_fast_it_guesses(
    site: Counting, client: redis.Redis, together: bool
) -> None:
    some = failing(clients(), 1, times=400)
    if together:
        site.take(some)
    else:
        for start in range(0, 400, 50):
            site.take(some[start : start + 50])
    assert banned(client) == {next(clients())}
    assert [client.get(KEYS.count(each, "pin")) for each in (NARROW, WIDE)] == [None, b"20"]
    site.take(failing(clients(1), 4, times=4))
    assert banned(client) == {next(clients())}
    site.take(failing(clients(5), 1, times=4))
    assert WIDE in banned(client), "but it counts"


@pytest.mark.parametrize("together", [True, False])
def test_one_household_alone_has_no_neighbour_banned_from_however_many_64s(
    site: Counting, client: redis.Redis, together: bool
) -> None:
    household = (Network(f"2001:db8:1:{n:x}::/64") for n in range(256))
    some = failing(household, 100, times=4)
    if together:
        site.take(some)
    else:
        for start in range(0, 400, 50):
            site.take(some[start : start + 50])
    assert banned(client) == {NARROW}
    assert client.get(KEYS.count(WIDE, "pin")) == b"20"
    site.take(failing(clients(), 5, times=4))
    assert WIDE in banned(client), "but it counts"


def test_what_filled_a_share_before_a_ban_does_not_fill_it_afterwards(site: Counting, client: redis.Redis) -> None:
    some = failing(clients(), 10, times=4)
    site.take(some)
    assert banned(client) == {WIDE}
    site.take([replace(each, id=f"again{number}") for number, each in enumerate(failing(clients(), 2, times=19))])
    assert client.get(KEYS.count(WIDE, "pin")) == b"38"


def test_where_many_join_some_may_mistype(site: Counting, client: redis.Redis) -> None:
    join(site, client, 60)
    site.take(failing(clients(), 79))
    assert banned(client) == set()
    site.take(failing(clients(79), 1))
    assert banned(client) == {WIDE}, "joins can be faked"


@pytest.mark.parametrize(("people", "times"), [(30, 1), (30, 20)])
def test_each_client_that_joins_is_one_however_often_it_does(
    site: Counting, client: redis.Redis, people: int, times: int
) -> None:
    for _ in range(times):
        join(site, client, people)
    site.take(failing(clients(), 40 + people - 1))
    assert banned(client) == set()
    site.take(failing(clients(200), 1))
    assert banned(client) == {WIDE}


def test_a_join_is_remembered_as_long_as_a_failure(site: Counting, client: redis.Redis) -> None:
    join(site, client, 60, age_ms=200_000)
    site.take(failing(clients(), 50))
    assert banned(client) == set()
    for network, _ in members(client, KEYS.joined(WIDE)):
        client.zincrby(KEYS.joined(WIDE), -100_000, network)  # so long ago
    site.take(failing(clients(50), 1))
    assert banned(client) == {WIDE}


def test_joins_of_another_rule_or_network_raise_nothing(site: Counting, client: redis.Redis) -> None:
    join(site, client, 60)
    site.take(failing(clients(), 40, rule="registration"))
    assert banned(client) == {WIDE}
    site.take(failing(clients(network="2001:db8:2"), 40))
    assert banned(client) == {WIDE, "2001:db8:2::/48"}


@pytest.mark.parametrize("value", ["x", None])
def test_what_a_person_wrote_into_the_joins_protects_no_guesser(
    site: Counting, client: redis.Redis, value: str | None
) -> None:
    if value:
        client.set(KEYS.joined(WIDE), value)
    site.take(failing(clients(), 40))
    assert banned(client) == {WIDE}
    site.take(joining(clients(), 3))
    wait_until(lambda: client.type(KEYS.joined(WIDE)) == b"zset", "what is no list of joins is replaced")
    assert client.zcard(KEYS.joined(WIDE)) == 3


def test_joins_are_bounded_and_end_by_themselves(settings: Settings, client: redis.Redis) -> None:
    Counters(Store(client), settings).note_joins(joining(clients(), 5_000), time.monotonic_ns() // 1_000_000)
    assert client.zcard(KEYS.joined(WIDE)) == 40
    assert 290_000 < client.pttl(KEYS.joined(WIDE)) <= 300_000


def test_a_hot_room_lowers_no_limit_of_a_wider_network(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rooms(settings, failures=5, addresses=3)) as site:
        for n in range(2, 7):
            site.take(failing(clients(network=f"2001:db8:{n}"), 1))
        assert "meet" in site.look_at_rooms()
        site.take(failing(clients(), 20))
    assert WIDE not in banned(client)


def test_an_allowed_client_inside_is_not_banned_with_its_network(site: Counting, run: Run, client: redis.Redis) -> None:
    as_json(run("allow", "2001:db8:1:77::5", "--json"))
    site.take(failing(clients(), 60))
    assert banned(client) == set()


def test_a_rule_that_simulates_bans_no_wider_network(site: Counting, client: redis.Redis) -> None:
    site.take(failing(clients(), 599, rule="prompt"))
    assert client.zcard(KEYS.simulated) == 0
    site.take(failing(clients(599), 1, rule="prompt"))
    assert [network for network, _ in members(client, KEYS.simulated)] == [WIDE]
    assert banned(client) == set()


def test_a_flooder_of_prompts_is_held_at_its_network_if_the_operator_says_so(
    settings: Settings, client: redis.Redis
) -> None:
    with counting(with_rules(settings, prompt={"simulate": False})) as site:
        site.take(failing(clients(), 600, rule="prompt"))
    assert banned(client) == {WIDE}


def test_ipv4_networks_are_counted_where_it_is_set(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rules(settings, pin={"levels": ("ipv4/24=25",)})) as site:
        some = [replace(failure(Network(f"203.0.113.{n}")), levels=(24,)) for n in range(25)]
        site.take(some[:24])
        assert banned(client) == set()
        site.take(some[24:])
    assert banned(client) == {"203.0.113.0/24"}


def test_a_level_that_is_not_set_any_more_counts_nothing(settings: Settings, client: redis.Redis) -> None:
    """A queue outlives a change of the settings."""
    with counting(with_rules(settings, pin={"levels": ("ipv6/40=50",)})) as site:
        site.take(failing(clients(), 60))
    assert banned(client) == set()
    assert len(client.keys("pinban:count:*")) == 60


def test_the_largest_window_that_can_be_set_is_a_ban_at_its_limit(settings: Settings, client: redis.Redis) -> None:
    with counting(with_rules(settings, pin={"maxretry": 1_000, "levels": ("ipv6/48=1000",)})) as site:
        site.take(joining(clients(), 3_000))
        wait_until(lambda: client.zcard(KEYS.joined(WIDE)) == 1_000, "the joins are noted")
        site.take(failing(clients(), 1_999))
        assert banned(client) == set()
        site.take(failing(clients(1_999), 1))
    assert banned(client) == {WIDE}


def test_an_operator_sees_wider_networks_with_their_limits_and_no_joins(
    site: Counting, run: Run, client: redis.Redis
) -> None:
    join(site, client, 3)
    site.take(failing(clients(), 14))
    rows = {
        (row["network"], row["rule"]): (row["count"], row["maxretry"]) for row in as_json(run("counters", "--json"))
    }
    assert rows[WIDE, "pin"] == (14, 40)
    assert rows[Network("2001:db8:1:100::/56"), "pin"] == (1, 15)
    assert rows[next(clients()), "pin"] == (1, 5)
    assert {rule for _, rule in rows} == {"pin"}


def test_an_unban_of_a_client_names_the_wider_ban_that_holds_it(
    settings: Settings, site: Counting, run: Run, client: redis.Redis
) -> None:
    site.take(failing(clients(), 40))
    told = as_json(run("unban", "2001:db8:1:100::7", "--json"), code=1)
    assert (told["was_banned"], told["within"]) == (False, [WIDE])
    assert Operator(settings).unban(WIDE, "")["was_banned"]
    assert banned(client) == set()
