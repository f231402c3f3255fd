"""A sender that is doubted lets no guesser go, and a forger gains nothing by it: real nginx, real connections, kernels.

A limit of 40 bans a minute stands for the 1,000 of the settings, and 120 addresses for 2,500.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest

from shared.addresses import Network
from shared.store.keys import Keys
from tests.lab.clients import pin_header, token_target
from tests.lab.datagrams import Sender, failure
from tests.lab.http1 import decode, encode
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import any_drops, await_witnesses, dropped_everywhere, ledger, operate, patient

KEYS = Keys()

LIMIT, ADDRESSES = 40, 120

#: What each address tries, and how many it may get: 5 are the limit, and after each answer it waits half a second for
#: its ban before it sends the next guess, so that one or two more are a busy machine's.
TRIES, MOST = 12, 7

#: Between two guesses from the fifth on, and until a guess counts as not answered, s.
_PAUSE_S, _GIVE_UP_S = 0.5, 2.0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    settings = {"receiver": {"doubt_above": LIMIT, "doubt_for": "5m"}, "rooms": {"failures": 0}}
    with patient(Lab(rps=2, settings=settings)) as lab:
        lab.attacker.namespace.configure("route add local 100.60.0.0/16 dev lo")
        for rp in lab.rps:
            rp.host.namespace.configure(f"route add 100.60.0.0/16 via {lab.attacker.outside}")
        await_witnesses(lab)
        yield lab


@pytest.fixture
def trusting(lab: Lab) -> None:
    """Nobody is doubted, and nobody is banned."""
    with lab.redis.client() as client:
        for rp in lab.rps:
            client.delete(KEYS.doubted, KEYS.sender(rp.host.inside), KEYS.judged(rp.host.inside))


class Addresses:
    """Clients of their own addresses, all at once: each guesses and waits for its ban."""

    def __init__(self, rp: str, sources: Sequence[str], *, short: bool) -> None:
        """`short`: a connection for each guess, cut off (RST) as soon as it is answered."""
        self._rp, self._sources, self._short = rp, sources, short

    def run(self) -> dict[str, int]:
        """How many guesses each got answered; in a thread of the attacker's namespace."""
        return asyncio.run(self._all())

    async def _all(self) -> dict[str, int]:
        counts = await asyncio.gather(*map(self._guess, self._sources))
        return dict(zip(self._sources, counts, strict=True))

    async def _guess(self, source: str) -> int:
        answered, kept = 0, None
        try:
            for turn in range(TRIES):
                async with asyncio.timeout(_GIVE_UP_S):
                    kept = kept or await self._connected(source)
                    headers = pin_header(f"{turn:06}")
                    await self._ask(kept, encode("POST", token_target(), self._rp, headers))
                answered += 1
                if self._short:
                    kept.close()
                    kept = None
                if answered >= 5:
                    await asyncio.sleep(_PAUSE_S)
        except (OSError, TimeoutError):
            pass  # dropped
        if kept:
            kept.close()
        return answered

    async def _connected(self, source: str) -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close() sends RST
        made.bind((source, 0))
        try:
            await asyncio.get_running_loop().sock_connect(made, (self._rp, 80))
        except BaseException:
            made.close()
            raise
        return made

    async def _ask(self, connection: socket.socket, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connection, request)
        buffer = b""
        while (found := decode(buffer)) is None:
            more = await loop.sock_recv(connection, 65_536)
            if not more:
                raise ConnectionResetError
            buffer += more
        assert found[0].status == 403


def guess_from(lab: Lab, rp: int, net: str, number: int, *, short: bool = False) -> dict[str, int]:
    """So many addresses of this /24 guess at once, through this RP; how many guesses each got answered."""
    addresses = Addresses(lab.rps[rp].host.outside, [f"{net}.{n}" for n in range(1, number + 1)], short=short)
    return lab.attacker.namespace.call(addresses.run)


def forge(lab: Lab, rp: int, victims: Sequence[str]) -> None:
    """Lines of five failures for each, as if nginx on this RP had sent them."""
    with Sender(lab.rps[rp].host.namespace) as sender:
        sender.pour((failure(victim, f"{victim}-{turn}") for victim in victims for turn in range(5)), per_ms=5)


def simulated(lab: Lab) -> set[str]:
    with lab.redis.client() as client:
        return {member.decode() for member in client.zrange(KEYS.simulated, 0, -1)}


def doubted(lab: Lab) -> set[str]:
    with lab.redis.client() as client:
        return {member.decode() for member in client.zrange(KEYS.doubted, 0, -1)}


def ban_of(lab: Lab, network: str) -> dict[str, str]:
    with lab.redis.client() as client:
        return {k.decode(): v.decode() for k, v in client.hgetall(KEYS.ban(Network(network))).items()}


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize(
    ("rp", "net", "short"),
    [(0, "100.60.1", False), (1, "100.60.2", True)],
    ids=["kept connections", "short connections"],
)
def test_of_many_real_addresses_none_gets_more_than_its_limit(lab: Lab, rp: int, net: str, short: bool) -> None:
    answered = guess_from(lab, rp, net, ADDRESSES, short=short)
    assert lab.rps[rp].host.inside in doubted(lab), "or this shows nothing"
    assert {address: count for address, count in answered.items() if count > MOST} == {}
    assert min(answered.values()) >= 5
    assert answered.keys() <= ledger(lab.redis)
    assert not answered.keys() & simulated(lab)
    assert {ban_of(lab, address)["rule"] for address in answered} == {"pin"}


@pytest.mark.usefixtures("trusting")
def test_one_who_only_forges_bans_no_more_than_the_limit_and_one_who_guesses_beside_him_is_banned(lab: Lab) -> None:
    before, simulated_before = ledger(lab.redis), simulated(lab)
    victims = [f"198.18.{n >> 8}.{n & 255}" for n in range(400)]
    forge(lab, 0, victims)
    wait_until(lambda: len((ledger(lab.redis) | simulated(lab)) - before - simulated_before) == 400, "all are judged")
    assert LIMIT // 2 < len(ledger(lab.redis) - before) <= LIMIT
    assert doubted(lab) == {lab.rps[0].host.inside}
    status = operate(lab, "status")
    assert status.returncode == 1
    told = " ".join(status.stdout.split())
    assert re.search(rf"lines of {re.escape(lab.rps[0].host.inside)} may be forged", told)
    assert re.search(r"0 bans made, 3\d\d only simulated because nobody was connected, 0 made for a minute", told)

    answered = guess_from(lab, 0, "100.60.3", 1)
    [(guesser, count)] = answered.items()
    assert 5 <= count <= MOST
    wait_until(partial(dropped_everywhere, lab, guesser), "every kernel drops him")
    assert ban_of(lab, guesser)["rule"] == "pin"


def nodes(lab: Lab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(operate(lab, "status", "--json").stdout)["nodes"]
    return found


@pytest.mark.usefixtures("trusting")
def test_where_the_kernel_cannot_be_asked_bans_are_short_and_status_says_so(lab: Lab) -> None:
    """The enforcer of that RP is frozen, and soon counts as dead; the other one drops the guesser for a minute."""
    frozen = lab.rps[0].enforcer
    assert frozen
    forge(lab, 0, [f"198.19.0.{n}" for n in range(LIMIT + 10)])
    wait_until(lambda: bool(doubted(lab)), "the sender is doubted")
    frozen.signal(signal.SIGSTOP)
    try:
        forge(lab, 0, ["198.19.9.9"])
        wait_until(partial(any_drops, lab, "198.19.9.9"), "it is banned")
        ban = ban_of(lab, "198.19.9.9")
        assert ban["rule"] == "pin.brief"
        assert int(ban["until"]) - int(ban["since"]) <= 60_000
        problems = json.loads(operate(lab, "status", "--json").stdout)["problems"]
        [about] = [each for each in problems if "may be forged" in each]
        assert lab.rps[0].host.inside in about
        assert "1 made for a minute at most because no enforcer could tell (" in about
    finally:
        frozen.signal(signal.SIGCONT)
    await_witnesses(lab)
    wait_until(lambda: all(node["alive"] for node in nodes(lab)), "its node is alive again")
    forge(lab, 0, ["198.19.9.10"])
    wait_until(lambda: "198.19.9.10" in simulated(lab) | ledger(lab.redis), "it is judged")
    assert "198.19.9.10" in simulated(lab)
