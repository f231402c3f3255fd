"""People who do nothing wrong are not banned, with the defaults; and each time a guesser on the same site is.

An office is one address for many people. A web page can make its visitor's browser send a POST to any site without
asking that site first (Fetch Standard, "CORS-safelisted request-header"): with an Origin and no header of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from tests.lab.clients import PIN, pin_header, token_target
from tests.lab.http1 import Answer, Connection, Header
from tests.lab.kernel import members
from tests.lab.lab import Lab
from tests.lab.node_answers import FULL as IS_FULL
from tests.lab.node_answers import REDIRECT
from tests.lab.process import wait_until
from tests.lab.views import await_ban, counted, guesses, ledger, new_source, node, number

JOINS = 200

#: The joins before which somebody mistypes: as many as a limit of five in five minutes bears.
MISTYPED = {30, 80, 130, 180}

#: How often a page makes its visitor ask.
ASKED = 100

LIMIT = 5

#: Beside the room that every lab has.
SSO, FULL, GONE = "meet.sso", "meet.full", "meet.yesterday"

#: What the browser adds when a page of another site asks, and when Pexip's own does.
FOREIGN: list[Header] = [
    ("Origin", "https://elsewhere.example"),
    ("Sec-Fetch-Mode", "no-cors"),
    ("Sec-Fetch-Site", "cross-site"),
    ("Sec-Fetch-Dest", "empty"),
    ("Content-Type", "text/plain;charset=UTF-8"),
]
OWN: list[Header] = [
    ("Origin", "https://meet.example"),
    ("Sec-Fetch-Mode", "cors"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Dest", "empty"),
    ("Content-Type", "application/json"),
]

#: Without Sec-Fetch-Site: an older browser, or one that asks without TLS. And a page of a neighbour's site.
OLDER = [each for each in FOREIGN if not each[0].startswith("Sec-")]
BESIDE = [(name, "same-site" if value == "cross-site" else value) for name, value in FOREIGN]

#: What a page may ask for, by the number of the request.
PAGES: dict[str, Callable[[int], str]] = {
    "a room": lambda _: token_target(),
    "a room that is gone": lambda _: token_target(GONE),
    "many rooms that are gone": lambda turn: token_target(f"{GONE}.{turn}"),
    "registrations": lambda turn: token_target(f"device{turn % 7}").replace("conferences", "registrations"),
}


class Site:
    """A lab with new addresses for everybody who visits it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._addresses = iter(range(110, 200))

    def visit(self, act: Callable[[list[str], str], int]) -> str:
        """Somebody with a new address acts: called with the proxies and the address, returns how often it asked.

        Returns the address when the receiver has counted all of that.
        """
        source = new_source(self.lab, next(self._addresses))
        before = number(self.lab.redis, "rx1", "received")
        asked = self.lab.attacker.namespace.call(partial(act, self.lab.addresses(), source))
        wait_until(partial(self._has_counted, before + asked), f"the receiver has counted {asked} requests")
        return source

    def banned(self) -> list[str]:
        """Every ban of the history, in order. Simulated ones are none."""
        with self.lab.redis.client() as client:
            rows = [row for _, row in client.xrange("{pinban}:history")]
        return [row[b"network"].decode() for row in rows if row[b"event"] == b"ban"]

    def _has_counted(self, received: int) -> bool:
        told = node(self.lab.redis, "rx1")
        return int(told["received"]) >= received and told["queued"] == "0"


@contextmanager
def only_a_guesser_is_banned(site: Site) -> Iterator[None]:
    """Nobody inside the block; at its end a guesser at the fifth wrong PIN. Looks into history, ledger and kernels."""
    before = site.banned()
    yield
    guesser = site.visit(partial(guess, LIMIT - 1))
    assert site.banned() == before
    guesses(site.lab, guesser, range(1), timeout=0.25)
    await_ban(site.lab, guesser)
    assert site.banned() == [*before, guesser]
    for held in (ledger(site.lab.redis), *(members(rp.host.namespace) for rp in site.lab.rps)):
        assert held == {*before, guesser}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    lab = Lab(rps=2)
    lab.node.argv += [f"--sso={SSO}={PIN}", f"--full={FULL}={PIN}"]
    with lab:
        yield Site(lab)


def guess(times: int, proxies: list[str], source: str) -> int:
    for turn in range(times):
        with Connection(proxies[turn % len(proxies)], source=source) as connection:
            assert refused(connection.ask("POST", token_target(), pin_header("999999")))
    return times


def refused(answer: Answer | None) -> bool:
    return answer is not None and answer.status == 403


def join(connection: Connection, alias: str, pins: list[str]) -> list[Answer | None]:
    """Ask for the prompt, then give these PINs one after the other, as Pexip's own page does."""
    return [connection.ask("POST", token_target(alias), [*OWN, *pin_header(pin)]) for pin in (None, *pins)]


def office(proxies: list[str], source: str) -> int:
    """Many join, each with a prompt first, and some mistype."""
    asked = 0
    for turn in range(JOINS):
        pins = ["999999", PIN] if turn in MISTYPED else [PIN]
        with Connection(proxies[turn % len(proxies)], source=source) as connection:
            statuses = [answer.status if answer else 0 for answer in join(connection, "meet.alice", pins)]
        assert statuses == [*([403] * len(pins)), 200]
        asked += len(statuses)
    return asked


def knock(alias: str, times: int, body: bytes, proxies: list[str], source: str) -> int:
    """Join with the right PIN so many times and be refused with this body."""
    for turn in range(times):
        with Connection(proxies[turn % len(proxies)], source=source) as connection:
            prompt, answer = join(connection, alias, [PIN])
        assert refused(prompt)
        assert answer
        assert (answer.status, answer.body) == (403, body)
    return 2 * times


def follow_dead_link(times: int, proxies: list[str], source: str) -> int:
    for turn in range(times):
        with Connection(proxies[turn % len(proxies)], source=source) as connection:
            answer = connection.ask("POST", token_target(GONE), OWN)
        assert answer
        assert answer.status == 404
    return times


def open_page(target: Callable[[int], str], proxies: list[str], source: str, *, browser: list[Header] = FOREIGN) -> int:
    """A page asks again and again; its visitor's browser breaks off every other request."""
    for turn in range(ASKED):
        with Connection(proxies[turn % len(proxies)], source=source) as connection:
            if turn % 2:
                connection.ask_and_leave("POST", target(turn), browser)
            else:
                assert connection.ask("POST", target(turn), browser)
    return ASKED


def test_two_hundred_joins_behind_one_address_are_no_ban(site: Site) -> None:
    with only_a_guesser_is_banned(site):
        source = site.visit(office)
        assert counted(site.lab.redis, source) == len(MISTYPED)


def test_fifty_joins_with_single_sign_on_are_no_ban(site: Site) -> None:
    with only_a_guesser_is_banned(site):
        source = site.visit(partial(knock, SSO, 50, REDIRECT))
        assert counted(site.lab.redis, source) == 0


def test_ten_tries_to_join_a_full_conference_are_no_ban(site: Site) -> None:
    with only_a_guesser_is_banned(site):
        source = site.visit(partial(knock, FULL, 10, IS_FULL))
        assert counted(site.lab.redis, source) == 0


def test_twenty_colleagues_with_one_dead_link_are_no_ban(site: Site) -> None:
    with only_a_guesser_is_banned(site):
        site.visit(partial(follow_dead_link, 20))


@pytest.mark.parametrize("target", PAGES.values(), ids=PAGES)
def test_a_web_page_cannot_have_its_visitor_banned(site: Site, target: Callable[[int], str]) -> None:
    with only_a_guesser_is_banned(site):
        site.visit(partial(open_page, target))


@pytest.mark.parametrize("browser", [OLDER, BESIDE], ids=["an older browser", "a page of a neighbour"])
def test_nor_can_one_whose_browser_says_less(site: Site, browser: list[Header]) -> None:
    with only_a_guesser_is_banned(site):
        site.visit(partial(open_page, PAGES["many rooms that are gone"], browser=browser))
