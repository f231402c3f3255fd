"""nginx logs a request when it is over, and a client decides when that is: few of his guesses may be under way."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest
from h2.connection import H2Connection
from h2.events import ResponseReceived
from h2.settings import SettingCodes

from tests.lab.clients import token_target
from tests.lab.lab import Lab
from tests.lab.views import await_ban, ledger, new_network, new_source

#: What an attacker tries at once, and the most that nginx/pinban.conf lets through of one client and of one /48.
GUESSES, MOST, MOST_OF_A_BLOCK = 200, 32, 64

#: Where nginx speaks HTTP/2.
HTTP2 = 81

PATIENCE_S = 5.0

Trick = Callable[[ExitStack, str, str, int], int]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    server = f"listen {HTTP2} http2; listen [::]:{HTTP2} http2;"
    with Lab(rps=1, server=server, settings={"enforcer": {"ports": [80, HTTP2, 443]}}) as lab:
        yield lab


def one_byte_too_many(held: ExitStack, proxy: str, source: str, guesses: int) -> int:
    """nginx reads on after its answer until the client is done, and logs then; how many guesses were refused."""
    refused = 0
    for number in range(guesses):
        connection = held.enter_context(socket.create_connection((proxy, 80), PATIENCE_S, (source, 0)))
        head = f"POST {token_target()} HTTP/1.1\r\nHost: rp\r\npin: 9{number:05}\r\nConnection: close\r\n"
        connection.sendall(f"{head}Content-Length: 0\r\n\r\nx".encode())
        refused += connection.recv(65_536).startswith(b"HTTP/1.1 403 ")
    return refused


def a_body_not_taken(held: ExitStack, proxy: str, source: str, guesses: int) -> int:
    """The status of an answer comes by HTTP/2 although there is no window for its body; how many were refused."""
    connection = held.enter_context(socket.create_connection((proxy, HTTP2), PATIENCE_S, (source, 0)))
    client = H2Connection()
    client.initiate_connection()
    client.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: 0})
    answered: list[bytes] = []
    for number in range(guesses):
        stream = client.get_next_available_stream_id()
        head = {":method": "POST", ":scheme": "http", ":authority": "rp", ":path": token_target()}
        client.send_headers(stream, [*head.items(), ("pin", f"9{number:05}")], end_stream=True)
        connection.sendall(client.data_to_send())
        while len(answered) <= number:
            for event in client.receive_data(connection.recv(65_536)):
                if isinstance(event, ResponseReceived):
                    answered.append(bytes(dict(event.headers)[b":status"]))
    return answered.count(b"403")


TRICKS = pytest.mark.parametrize(("trick", "at_once"), [(one_byte_too_many, GUESSES), (a_body_not_taken, 100)])


@TRICKS
def test_few_guesses_are_answered_before_the_first_is_logged(lab: Lab, trick: Trick, at_once: int) -> None:
    source = new_source(lab, 120 if trick is a_body_not_taken else 121)
    wrong = lab.node.truth()["wrong"]
    with ExitStack() as held:
        ask = partial(trick, held, lab.rps[0].host.outside, source, at_once)
        assert lab.attacker.namespace.call(ask) == MOST
        assert source not in ledger(lab.redis), "nothing is logged yet"
    await_ban(lab, source)
    assert lab.node.truth()["wrong"] - wrong == MOST


@TRICKS
def test_a_48_has_few_under_way_too(lab: Lab, trick: Trick, at_once: int) -> None:
    network = new_network(lab, "2001:db8:71" if trick is a_body_not_taken else "2001:db8:72")
    with ExitStack() as held:
        asked = [
            lab.attacker.namespace.call(
                partial(trick, held, lab.rps[0].host.outside6, f"{network}:{n}00::1", at_once // 4)
            )
            for n in range(4)
        ]
        assert sum(asked) == MOST_OF_A_BLOCK
    await_ban(lab, f"{network}::/48")
