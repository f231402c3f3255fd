"""A ban that stops nobody is a problem that `pinban status` names; guesses that were under way are none."""

from __future__ import annotations

import socket
import time
from functools import partial

from h2.config import H2Configuration
from h2.connection import H2Connection

from shared.store.keys import Keys
from tests.lab.clients import pin_header, token_target
from tests.lab.daemons import set_constants
from tests.lab.datagrams import Sender, failure
from tests.lab.guesser import Guesser
from tests.lab.http1 import Connection, encode
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import await_ban, number, operate

#: Whom the balancer forwards.
CLIENT = "203.0.113.7"

#: How long a request took whose line does not say it: here, next to nothing.
LONGEST_MS = "receiver.store.leaks._LONGEST_MS"

#: The attacker's host is the load balancer, and nginx believes it as nginx's manual says.
BEHIND_A_BALANCER = "set_real_ip_from 198.51.100.66; real_ip_header X-Forwarded-For;"

#: A real node takes so long to refuse a PIN, ms. It is more than an address may still fail after its ban.
REFUSAL_MS = 4_000

STREAMS = 20

#: Nginx turns to the third of these when the ban is a refusal's time old.
ROW, IN_A_ROW = "meet.row", 3


def test_a_ban_behind_a_load_balancer_is_a_problem_that_status_and_log_name() -> None:
    """It stops nobody: packets have the balancer's address. Whoever guesses on is answered, and that is told."""
    lab = Lab(rps=1, server=BEHIND_A_BALANCER)
    assert lab.receiver
    set_constants(lab.receiver, {LONGEST_MS: 0})
    with lab:
        proxy = lab.rps[0].host

        def told() -> str:
            """What is wrong after some more guesses, which are answered."""
            assert lab.attacker.namespace.call(partial(forwarded, proxy.outside, 5)) == [403] * 5
            shown = operate(lab, "status")
            return shown.stdout if shown.returncode else ""

        wait_until(lambda: operate(lab, "status").returncode == 0, "the enforcer has told that it is connected")
        assert lab.attacker.namespace.call(partial(forwarded, proxy.outside, 30)) == [403] * 30
        await_ban(lab, CLIENT)
        assert operate(lab, "status").returncode == 0, "a moment after the ban nobody can know"
        leak = f"{CLIENT} still gets through {proxy.inside}, "
        wait_until(lambda: f"! {leak}" in told(), "status names it")
        assert leak in lab.receiver.log.read_text()
        assert operate(lab, "unban", CLIENT).returncode == 0
        assert operate(lab, "status").returncode == 0, "who is not banned gets through"


def test_guesses_that_were_under_way_when_their_address_was_banned_are_no_problem() -> None:
    """At full speed, over open connections, in streams of HTTP/2 and sent in a row, at a node that refuses slowly."""
    settings = {"receiver": {"workers": 1}}
    lab = Lab(rps=1, server="listen 81 http2;", delay_ms=REFUSAL_MS, settings=settings)
    lab.node.argv.append(f"--pin={ROW}=1234")
    with lab:
        proxy = lab.rps[0].host.outside
        guesser = Guesser([proxy], connections=8, seconds=2.2 * REFUSAL_MS / 1_000, starved_after=60.0)
        attack = [lab.attacker.namespace.start(run) for run in (guesser.run, partial(guess_in_streams, proxy))]
        line = lab.attacker.namespace.call(partial(guess_in_a_row, proxy))
        await_ban(lab, lab.attacker.outside)
        counted = number(lab.redis, "rx1", "wrong_pin")
        for each in attack:
            each.result()
        line.close()
        assert lab.node.truth()["wrong"] > counted, "some were under way"
        wait_until(lambda: number(lab.redis, "rx1", "wrong_pin") == lab.node.truth()["wrong"], "all are counted")
        with Sender(lab.rps[0].host.namespace) as sender:
            for room in ("after", "later"):  # what is noted once no failure waits is noted in order
                sender.send(failure("198.51.100.99", room, room))
                wait_until(lambda: noted(lab, room) == 1, "what came before is noted")  # noqa: B023
        assert operate(lab, "status").returncode == 0, operate(lab, "status").stdout
        with lab.redis.client() as client:
            assert not client.exists(Keys().suspects), "no single one looked like a leak"


def forwarded(proxy: str, times: int) -> list[int]:
    """The answers to so many guesses that a balancer forwards."""
    with Connection(proxy) as connection:
        headers = [*pin_header("999999"), ("X-Forwarded-For", CLIENT)]
        answers = [connection.ask("POST", token_target(), headers) for _ in range(times)]
        return [answer.status if answer else 0 for answer in answers]


def guess_in_streams(proxy: str) -> None:
    """Five guesses a second, each in a stream of its own, whose answers nobody reads."""
    connection = H2Connection(H2Configuration(client_side=True))
    with socket.create_connection((proxy, 81), 5) as plain:
        connection.initiate_connection()
        for turn in range(STREAMS):
            head = {":method": "POST", ":path": token_target(), ":scheme": "http", ":authority": proxy}
            connection.send_headers(2 * turn + 1, [*head.items(), *pin_header("999999")], end_stream=True)
            plain.sendall(connection.data_to_send())
            time.sleep(REFUSAL_MS / 1_000 / STREAMS)  # so that they are at work all the time until the ban
        time.sleep(REFUSAL_MS / 1_000)  # a connection that is closed would end them


def guess_in_a_row(proxy: str) -> socket.socket:
    """Guesses sent at once on one connection: nginx turns to each when it has answered the one before."""
    line = socket.create_connection((proxy, 80), 5)
    line.sendall(encode("POST", token_target(ROW), proxy, pin_header("999999")) * IN_A_ROW)
    return line


def noted(lab: Lab, room: str) -> int:
    """How many wrong PINs on a room are noted."""
    with lab.redis.client() as client:
        return int(client.zcard(Keys().room_failures(room)))
