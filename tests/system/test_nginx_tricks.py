"""Every known way to guess without being logged, one for each guess, is five guesses to a ban."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Iterator
from functools import partial

import pytest

from tests.lab.http1 import decode
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import await_ban, counted, ledger, new_source, unanswered

LIMIT = 5

LONG = "long" * 100

#: Rooms that the tricks need beside meet.alice.
ROOMS = ("a/b", "two\nlines", LONG)

PATH = "/api/client/v2/conferences/meet.alice/request_token"

NOISE = "\xff" * 8_170

PIN = ("pin", "999999")


def request(target: str = PATH, *headers: tuple[str, str], line: str = "POST {} HTTP/1.1", end: str = "\r\n") -> bytes:
    """A guess: with these headers, or with the one that carries a wrong PIN."""
    carried = headers if any(name == "pin" for name, _ in headers) else (*headers, PIN)
    lines = [line.format(target), "Host: rp", "Content-Length: 0", *(f"{name}: {value}" for name, value in carried)]
    return (end.join(lines) + 2 * end).encode("latin-1")


def basic(user: str) -> tuple[str, str]:
    return "Authorization", "Basic " + b64encode(f"{user}:".encode()).decode()


def room(alias: str) -> str:
    return PATH.replace("meet.alice", alias)


#: The numbers are the rows of our research's table of evasions; 0 is what the ground-truth test added to it.
TRICKS: dict[str, bytes] = {
    "1 a Referer": request(PATH, ("Referer", "x")),
    "2 a user": request(PATH, basic("foo")),
    "3 a user that looks like a line": request(PATH, basic('- [x] "a"\n9.9.9.9')),
    "4 a query": request(PATH + "?a=1"),
    "5 absolute-form": request("http://rp" + PATH),
    "6 an encoded letter": request(PATH.replace("request_", "request%5F")),
    "6 dot segments": request(PATH.replace("/client", "/x/../client")),
    "6 encoded dot segments": request(PATH.replace("/client", "/x/%2e%2E/./client")),
    "6 two slashes": request(PATH.replace("/v2", "//v2")),
    "7 a slash in the alias": request(room("a%2Fb")),
    "8 a slash at the end": request(PATH + "/"),
    "8 the first version": request(PATH.replace("v2", "v1")),
    "8 odd case": request(PATH.replace("request", "Request").replace("client", "CLIENT")),
    "9 two headers of 8 kB": request(PATH, ("Referer", NOISE), ("User-Agent", NOISE)),
    "10 a long alias": request(room(LONG)),
    "11 no UTF-8": request(PATH, ("User-Agent", "\xff\xfe")),
    "12 gone before the answer": request(),
    "12b none first": request(PATH, ("pin", "none"), PIN),
    "12b nothing first": request(PATH, ("pin", ""), PIN),
    "12c a line feed in the alias": request(room("two%0alines")),
    "0 spaces in the request line": request(line="POST   {}   HTTP/1.1  "),
    "0 a tab first": request(PATH, ("pin", "\tnone"), PIN),
    "0 HTTP/1.0": request(line="POST {} HTTP/1.0"),
    "0 line feeds alone": request(end="\n"),
}

NAMES = list(TRICKS)

#: Each address begins so many tricks after the one before: fewer addresses than make a room hot, which is stricter.
STEP = 3


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    lab = Lab(rps=1)
    lab.node.argv += [f"--pin={alias}=1234" for alias in ROOMS]
    with lab:
        yield lab


def play(lab: Lab, source: str, name: str) -> int:
    """The status of the answer; 0 for the trick that does not wait for one."""
    with socket.create_connection((lab.rps[0].host.outside, 80), 2, (source, 0)) as connection:
        connection.sendall(TRICKS[name])
        if name.startswith("12 "):
            return 0
        received = b""
        while (found := decode(received)) is None:
            data = connection.recv(65_536)
            assert data, f"no answer to {name}: {received!r}"
            received += data
        return found[0].status


def is_counted(lab: Lab, source: str, count: int) -> bool:
    return counted(lab.redis, source) == count


@pytest.mark.parametrize("first", range(0, len(NAMES), STEP), ids=NAMES[::STEP])
def test_five_guesses_with_a_trick_each_are_a_ban(lab: Lab, first: int) -> None:
    source = new_source(lab, 110 + first)
    wrong = lab.node.truth()["wrong"]
    for number in range(1, LIMIT + 1):
        name = NAMES[(first + number - 1) % len(NAMES)]
        assert source not in ledger(lab.redis)
        assert lab.attacker.namespace.call(partial(play, lab, source, name)) in (403, 0)
        if number < LIMIT:
            wait_until(partial(is_counted, lab, source, number), f"{name} is counted")
    await_ban(lab, source)
    assert unanswered(lab, source)
    assert lab.node.truth()["wrong"] - wrong == LIMIT
