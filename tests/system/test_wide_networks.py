"""One IPv6 network has any number of addresses to guess from: it is held as a whole, and nobody else is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice

import pytest

from tests.lab.clients import PIN, guess
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import await_ban, counted, ledger, new_network

#: What an attacker tries, far more than what is ever answered.
GUESSES = 600

#: The most guesses that one /48 gets answered, by all reverse proxies together.
MOST = 100

#: Requests under way at any time.
AT_ONCE = 8


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=2) as lab:
        yield lab


def ask(lab: Lab, sources: Iterable[str], pins: Iterable[str], timeout: float = 5.0) -> list[int]:
    """One request from each source, with one of the pins each; the statuses, 0 for no answer."""
    proxies = cycle(lab.addresses(v6=True))

    def one(source: str, proxy: str, pin: str) -> int:
        answer = guess(proxy, pin, source=source, timeout=timeout)
        return answer.status if answer else 0

    def run() -> list[int]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, *zip(*zip(sources, proxies, pins, strict=False), strict=True)))

    return lab.attacker.namespace.call(run)


def wrong_pins() -> Iterator[str]:
    return (f"9{n:05}" for n in range(GUESSES))


def attack(lab: Lab, network: str) -> int:
    """Guess from a new /64 of the /48 each time, until all of it is banned; how many guesses were answered.

    Each round begins when the last is counted: what is under way meanwhile is the matter of test_attack.
    """
    sources, wide, answered = sources_of(network), f"{network}::/48", 0
    while answered <= GUESSES and wide not in ledger(lab.redis):
        answered += ask(lab, islice(sources, AT_ONCE), wrong_pins(), timeout=2.0).count(403)
        wait_until(partial(is_counted, lab, wide, answered), f"{answered} guesses of {wide} are counted")
    await_ban(lab, wide)
    assert ask(lab, islice(sources, AT_ONCE), wrong_pins(), timeout=0.25) == [0] * AT_ONCE
    return answered


def is_counted(lab: Lab, network: str, guesses: int) -> bool:
    return counted(lab.redis, network) >= guesses or network in ledger(lab.redis)


def sources_of(network: str, first: int = 0) -> Iterator[str]:
    """An address in each /64 of a /48, in the other half of its /56s from 2 ** 15 on."""
    return (f"{network}:{n << 6 & 0xFFFF | n >> 10:x}::1" for n in range(first, 2**16))


def test_one_48_gets_few_guesses_answered_from_however_many_64s_and_its_neighbour_is_served(lab: Lab) -> None:
    guilty, neighbour = new_network(lab, "2001:db8:66"), new_network(lab, "2001:db8:67")
    assert 40 <= attack(lab, guilty) <= MOST
    assert f"{neighbour}::/48" not in ledger(lab.redis)
    assert ask(lab, sources_of(neighbour), [PIN] * 4) == [200] * 4


def test_faked_joins_do_not_help_an_attacker_much(lab: Lab) -> None:
    guilty = new_network(lab, "2001:db8:68")
    assert ask(lab, islice(sources_of(guilty), 60), cycle([PIN])) == [200] * 60
    wait_until(lambda: joins(lab, f"{guilty}::/48") == 40, "the joins are noted")
    assert 80 <= attack(lab, guilty) <= MOST


def test_a_network_in_which_sixty_join_and_some_mistype_is_unharmed(lab: Lab) -> None:
    site = new_network(lab, "2001:db8:69")
    assert ask(lab, islice(sources_of(site), 60), cycle([PIN])) == [200] * 60
    wait_until(lambda: joins(lab, f"{site}::/48") == 40, "the joins are noted")
    assert ask(lab, islice(sources_of(site), 50), wrong_pins()) == [403] * 50
    wait_until(lambda: counted(lab.redis, f"{site}::/48") == 50, "all are counted")
    assert not any(network.startswith(site) for network in ledger(lab.redis))
    assert ask(lab, islice(sources_of(site), 60), cycle([PIN])) == [200] * 60


def joins(lab: Lab, network: str) -> int:
    """How many clients of a network have joined lately, at most as many as matter."""
    with lab.redis.client() as client:
        return int(client.zcard(f"pinban:joined:{{{network}}}"))
