"""What a guesser sent before his ban, guess behind guess on a connection, is not asked of the nodes after it."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.lab.clients import PIN, guess, token_target
from tests.lab.http1 import encode
from tests.lab.lab import Lab
from tests.lab.process import wait_until
from tests.lab.views import await_ban, new_source

#: Guesses on the connection; a node refuses each after so many ms, so they would last for a minute.
QUEUED, DELAY_MS = 200, 300


def connected(lab: Lab, source: str) -> bool:
    """Whether the proxy's kernel has a connection of this client."""

    def look() -> bool:
        table = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
        return any(line.split()[2].startswith(socket.inet_aton(source)[::-1].hex().upper()) for line in table)

    return lab.rps[0].host.namespace.call(look)


def test_a_ban_ends_the_connection_in_which_more_guesses_wait() -> None:
    with Lab(rps=1, delay_ms=DELAY_MS) as lab:
        source, bystander, proxy = new_source(lab, 120), new_source(lab, 121), lab.rps[0].host.outside
        pins = [*(f"9{number:05}" for number in range(QUEUED)), PIN]
        guesses = b"".join(encode("POST", token_target(), proxy, [("pin", pin)]) for pin in pins)
        connection = lab.attacker.namespace.call(lambda: socket.create_connection((proxy, 80), 5.0, (source, 0)))
        with connection:
            connection.sendall(guesses)
            wait_until(lambda: connected(lab, source), "it guesses")
            await_ban(lab, source)
            wait_until(lambda: not connected(lab, source), "the ban ends its connection")
            asked = lab.node.truth()["wrong"]
            assert asked < QUEUED, "else it ended by itself"
            for _ in range(3):  # each takes as long as a guess that still waited would
                answer = lab.attacker.namespace.call(lambda: guess(proxy, PIN, source=bystander))
                assert answer
                assert answer.status == 200
            assert lab.node.truth()["wrong"] <= asked + 1, "one was under way"
