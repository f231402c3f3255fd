"""A room under attack, through real nginx: what heats it, what does not, and what a ban in it takes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab.clients import ALIAS, PIN, guess
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import await_ban, counted, ledger, new_source, operate, unanswered

#: Kept of a room: rooms.failures.
KEPT = 15

#: Failures of the attack, and the networks that they come from.
GUESSES, SOURCES = 24, 12


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """One worker, so that who counts knows of the heat at once."""
    with Lab(rps=1, settings={"receiver": {"workers": 1}}) as lab:
        proxy, attacker = lab.rps[0].host.namespace, lab.attacker.namespace
        proxy.configure("route add 100.64.0.0/10 dev outside", "route add 2001:db8:1::/48 dev outside")
        attacker.configure(
            *(f"addr add {scattered(n)}/32 dev outside" for n in range(SOURCES)),
            *(f"addr add {together(n)}/128 dev outside nodad" for n in range(11)),
        )
        yield lab


def scattered(n: int) -> str:
    """Addresses of many owners."""
    return f"100.64.{n}.7"


def together(n: int) -> str:
    """Each in a /56 of its own, all in one /48."""
    return f"2001:db8:1:{n << 8:x}::7"


def wrong(lab: Lab, source: str, pin: int, *, proxy: str = "", alias: str = ALIAS) -> int:
    """Try a wrong PIN; the status, 0 without an answer."""
    asked = partial(guess, proxy or lab.rps[0].host.outside, f"9{pin:05}", alias, source=source)
    answer = lab.attacker.namespace.call(asked)
    return answer.status if answer else 0


def noted(lab: Lab, failures: int) -> bool:
    """Whether the room's watch has seen so many failures."""
    with lab.redis.client() as client:
        return int(client.zcard(f"pinban:room:{{{ALIAS}}}:failures")) == failures


def hot(lab: Lab) -> list[str]:
    with lab.redis.client() as client:
        return [room.decode() for room in client.zrange("{pinban}:hot", 0, -1)]


def rule_of(lab: Lab, address: str) -> str:
    with lab.redis.client() as client:
        return (client.hget(f"{{pinban}}:ban:{address}", "rule") or b"").decode()


def test_one_network_heats_no_room_and_two_typos_of_an_office_are_no_ban(lab: Lab) -> None:
    proxy = lab.rps[0].host.outside6
    assert [wrong(lab, together(n % 11), n, proxy=proxy) for n in range(20)] == [403] * 20
    wait_until(lambda: noted(lab, KEPT), "the room's watch has seen them")
    assert hot(lab) == []
    office = new_source(lab, 120)
    assert [wrong(lab, office, n) for n in range(2)] == [403] * 2
    wait_until(lambda: counted(lab.redis, office) == 2, "both are counted")
    assert ledger(lab.redis) == set()


def test_an_attack_from_many_networks_heats_it_then_two_typos_are_no_ban_and_three_wrong_pins_are(lab: Lab) -> None:
    assert [wrong(lab, scattered(n % SOURCES), n) for n in range(GUESSES)] == [403] * GUESSES
    wait_until(lambda: hot(lab) == [ALIAS], "it is hot")
    assert f"room {ALIAS} is under attack" in operate(lab, "status").stdout
    office = new_source(lab, 121)
    assert [wrong(lab, office, n) for n in range(2)] == [403] * 2
    wait_until(lambda: counted(lab.redis, office) == 2, "both are counted")
    joined = lab.attacker.namespace.call(partial(guess, lab.rps[0].host.outside, PIN, source=office))
    assert joined
    assert joined.status == 200
    assert ledger(lab.redis) == set(), "two each, of the office and of the attackers"
    wrong(lab, office, 3)
    await_ban(lab, office)
    assert unanswered(lab, office)
    assert rule_of(lab, office) == "pin.hot"
    wrong(lab, scattered(0), GUESSES)
    await_ban(lab, scattered(0))
    assert rule_of(lab, scattered(0)) == "pin.hot"
