"""What a probe looks like on its way, whom an enforcer asks for it, and what it makes of the answers."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest

from enforcer.probes import Probes
from shared.clock import RedisClock
from shared.durations import Milliseconds
from shared.probe import Probe, ProbeUrl, parse_probe, parse_probe_url
from shared.settings.schema import Enforcer, Settings
from tests.lab.process import PATIENCE_S, wait_until

PROBE = Probe("rp1", "0123abcd", 17, 1_795_356_738_348)

NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"


def test_a_probe_is_read_as_it_was_written() -> None:
    assert str(PROBE) == "rp1/0123abcd/17/1795356738348"
    assert parse_probe(str(PROBE)) == PROBE
    longest = Probe("r" * 32, "f" * 8, 10**12 - 1, 10**14 - 1)
    assert parse_probe(str(longest)) == longest
    assert len(str(longest)) <= 100, "nginx/pinban.conf takes no more"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rp1",
        "rp1/0123abcd/17",
        "rp1/0123abcd/17/0/0",
        "rp1/0123ABCD/17/0",
        "rp1/0123abcd/-1/0",
        "rp1/0123abcd/1e9/0",
        "rp1/0123abcd/1234567890123/0",
        "rp1/0123abcd/\u0661/0",
        "/0123abcd/17/0",
        "-rp/0123abcd/17/0",
        "rp 1/0123abcd/17/0",
        "r" * 33 + "/0123abcd/17/0",
        "rp1/0123abcd/17/0\n",
    ],
)
def test_what_no_enforcer_has_asked_is_no_probe(text: str) -> None:
    assert parse_probe(text) is None


def test_only_the_loopback_is_asked() -> None:
    assert parse_probe_url("") is None
    assert parse_probe_url("http://127.0.0.1:8515/.pinban/probe") == ProbeUrl("127.0.0.1", 8515, "/.pinban/probe")
    assert parse_probe_url("http://127.9.8.7/b") == ProbeUrl("127.9.8.7", 80, "/b")


@pytest.mark.parametrize(
    "text",
    [
        "https://127.0.0.1/.pinban/probe",
        "http://10.0.0.1/.pinban/probe",
        "http://localhost/.pinban/probe",
        "http://127.0.0.256/.pinban/probe",
        "http://127.0.0.1:0/.pinban/probe",
        "http://127.0.0.1:65536/.pinban/probe",
        "http://127.0.0.1@example.com/.pinban/probe",
        "http://127.0.0.1.example.com/.pinban/probe",
        "http://127.0.0.1/a b",
        "http://127.0.0.1/a\r\nX: y",
        "http://127.0.0.1/?a",
        "http://127.0.0.1",
    ],
)
def test_nobody_else_can_be_asked(text: str) -> None:
    with pytest.raises(ValueError, match="no page of this host's nginx"):
        parse_probe_url(text)


def test_the_clock_of_redis_goes_on_between_two_answers() -> None:
    clock = RedisClock()
    assert clock.now_ms() == 0, "nothing learned"
    before = time.monotonic()
    clock.learn(1_795_356_738_348, before - 0.050, before + 0.050)
    passed_ms = (time.monotonic() - before) * 1_000
    goes_on_ms = clock.now_ms() - 1_795_356_738_348
    at_most_ms = (time.monotonic() - before) * 1_000
    assert passed_ms - 1 <= goes_on_ms <= at_most_ms + 1, "rounded to a millisecond"
    clock.learn(5_000, time.monotonic(), time.monotonic())
    assert 5_000 <= clock.now_ms() <= 65_000, "the last word holds: after a failover another host tells the time"


@contextmanager
def answering(*answers: bytes | None) -> Iterator[tuple[str, list[bytes], list[int]]]:
    """A server that gives these answers, then the last one for ever; None hangs up.

    Its URL, the requests, and on which connection, counted from 0, each of them came.
    """
    asked: list[bytes] = []
    connections: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def serve() -> None:
            for number in itertools.count():
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    while request := connection.recv(4096):
                        asked.append(request)
                        connections.append(number)
                        answer = answers[min(len(asked), len(answers)) - 1]
                        if answer is None:
                            break
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}/.pinban/probe", asked, connections
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_S)


@contextmanager
def probing(url: str) -> Iterator[Probes]:
    enforcer = Enforcer(node="rp7", probe_url=url, probe_every=Milliseconds(200))
    probes = Probes(msgspec.structs.replace(Settings(), enforcer=enforcer))
    probes.clock.learn(1_000_000, time.monotonic(), time.monotonic())
    probes.start()
    try:
        yield probes
    finally:
        probes.stop()
        probes.join(PATIENCE_S)


def probes_of(asked: list[bytes]) -> list[Probe]:
    targets = [request.split(b" ")[1].decode().removeprefix("/.pinban/probe/") for request in asked]
    found = [parse_probe(target) for target in targets]
    return [probe for probe in found if probe is not None]


def test_numbers_count_what_nginx_answered_and_nothing_else() -> None:
    refused = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
    answers = (NO_CONTENT, refused, None, b"garbage\r\n\r\n", NO_CONTENT)
    with answering(*answers) as (url, asked, _), probing(url) as probes:
        wait_until(lambda: len(asked) >= 6, "six questions")
        numbers = [probe.number for probe in probes_of(asked)[:6]]
        assert numbers == [1, 2, 2, 2, 2, 3]
        wait_until(lambda: probes.sent >= 3 and not probes.trouble, "three were answered")
        [instance] = {probe.instance for probe in probes_of(asked)}
        assert instance == probes.instance
        assert {probe.rp for probe in probes_of(asked)} == {"rp7"}
        assert all(1_000_000 <= probe.asked_ms < 1_060_000 for probe in probes_of(asked))


def test_two_probes_go_through_one_connection_and_each_round_has_its_own() -> None:
    with answering(NO_CONTENT) as (url, asked, connections), probing(url):
        wait_until(lambda: len(asked) >= 6, "three rounds")
        assert connections[:6] == [0, 0, 1, 1, 2, 2]


def test_a_redirect_leads_nowhere() -> None:
    with answering(NO_CONTENT) as (elsewhere, followed, _):
        moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + elsewhere.encode() + b"\r\n\r\n"
        with answering(moved) as (url, _, _), probing(url) as probes:
            wait_until(lambda: bool(probes.trouble), "that is a trouble")
            assert probes.trouble == "nginx answers with status 302 when asked for a probe"
            assert (probes.sent, followed) == (0, [])


def test_silence_is_a_trouble_and_ends_with_an_answer() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        with probing(f"http://127.0.0.1:{port}/.pinban/probe") as probes:
            wait_until(lambda: "does not answer" in probes.trouble, "nobody listens")
            reserved.listen()
            connection, _ = reserved.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(NO_CONTENT)
                connection.recv(4096)
                connection.sendall(NO_CONTENT)
            wait_until(lambda: not probes.trouble, "it is over")
            assert probes.sent == 2


def test_an_nginx_that_accepts_and_says_nothing_is_not_waited_for_long() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        enforcer = Enforcer(probe_url=f"http://127.0.0.1:{server.getsockname()[1]}/b", probe_every=Milliseconds(200))
        probes = Probes(msgspec.structs.replace(Settings(), enforcer=enforcer))
        probes.start()
        server.settimeout(PATIENCE_S)
        with server.accept()[0]:
            began = time.monotonic()
            server.accept()[0].close()
            assert time.monotonic() - began > 1
        probes.stop()
        probes.join(PATIENCE_S)
        assert not probes.is_alive()
        assert probes.sent == 0


def test_without_a_url_nobody_is_asked() -> None:
    with probing("") as probes:
        probes.join(PATIENCE_S)
        assert not probes.is_alive()
        assert (probes.sent, probes.trouble) == (-1, "")
