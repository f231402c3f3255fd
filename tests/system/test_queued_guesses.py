"""What a guesser sent before his ban, guess behind guess on a connection, is not asked of the nodes after it."""

from __future__ import annotations

import socket
import time

from tests.lab.clients import PIN, token_target
from tests.lab.http1 import encode
from tests.lab.lab import Lab
from tests.lab.views import await_ban, ledger, new_source

LIMIT, QUEUED, DELAY_S = 5, 40, 0.3

#: Guesses that may be asked until the ban is in the kernel and the connection is gone.
LATE = 3


def test_a_ban_ends_the_connection_in_which_more_guesses_wait() -> None:
    with Lab(rps=1, delay_ms=1_000 * DELAY_S) as lab:
        source, proxy = new_source(lab, 120), lab.rps[0].host.outside
        pins = [*(f"9{number:05}" for number in range(QUEUED)), PIN]
        guesses = b"".join(encode("POST", token_target(), proxy, [("pin", pin)]) for pin in pins)
        connection = lab.attacker.namespace.call(lambda: socket.create_connection((proxy, 80), 5.0, (source, 0)))
        with connection:
            connection.sendall(guesses)
            await_ban(lab, source)
            time.sleep(2 * LATE * DELAY_S)
            truth = lab.node.truth()
            assert LIMIT <= truth["wrong"] <= LIMIT + LATE
            time.sleep(2 * LATE * DELAY_S)
            assert lab.node.truth() == truth
        assert source in ledger(lab.redis)
