"""The enforcer's side of a question: the witness of a namespace with a server in it, answering into a real Redis."""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
import redis

from enforcer.witness import Witness
from enforcer.witness import witness as module
from enforcer.witness.sockets import Sockets
from shared.addresses import Network
from shared.errors import FirewallError
from shared.events import Question, Stamp
from shared.settings.schema import Settings
from tests.lab.netns import Namespace, unique_prefix
from tests.lab.process import PATIENCE_S, wait_until
from tests.redis.conftest import KEYS, facts

NOBODY, CLIENT = Network("192.0.2.7"), Network("127.0.0.9")


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    namespace = Namespace(f"{unique_prefix()}-witness")
    namespace.create()
    yield namespace
    namespace.remove()


@pytest.fixture
def nginx(namespace: Namespace) -> Iterator[socket.socket]:
    """What listens on the port."""
    with namespace.call(lambda: socket.create_server(("0.0.0.0", 443), backlog=100)) as server:
        yield server


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has always looked for long enough, and tries again at once."""
    monkeypatch.setattr(module, "_MARGIN_MS", 0)
    monkeypatch.setattr(module, "_RETRY_S", 0.05)


@contextmanager
def watching(namespace: Namespace, settings: Settings, **enforcer: object) -> Iterator[Witness]:
    mine = msgspec.structs.replace(settings, enforcer=msgspec.structs.replace(settings.enforcer, **enforcer))
    witness = Witness(mine)
    namespace.call(witness.start)
    wait_until(lambda: witness.trouble != "has not looked yet", "it has looked")
    try:
        yield witness
    finally:
        witness.stop()
        witness.join(PATIENCE_S)
    assert not witness.is_alive()


def connect(namespace: Namespace, nginx: socket.socket, *, close: bool) -> list[socket.socket]:
    client = namespace.call(lambda: socket.create_connection(("127.0.0.1", 443), source_address=(CLIENT, 0)))
    inside, _ = nginx.accept()
    if close:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        inside.close()
    return [client, inside]


_ids = iter(range(2**62))


def answer(witness: Witness, client: redis.Redis, network: Network, age_ms: int = 0) -> str:
    """What it says, when it has said something."""
    id_ = f"{next(_ids):016x}"
    witness.ask(Question(Stamp("e", 1), network, age_ms, id_))
    field = f"{network} {id_}"
    wait_until(lambda: field in facts(client, KEYS.witness("rp1")), "it answers")
    return facts(client, KEYS.witness("rp1"))[field]


def test_who_is_connected_is_seen_and_who_is_not_is_not(
    namespace: Namespace, nginx: socket.socket, settings: Settings, client: redis.Redis
) -> None:
    with watching(namespace, settings) as witness:
        assert answer(witness, client, NOBODY) == "unseen"
        assert answer(witness, client, CLIENT) == "unseen"
        ends = connect(namespace, nginx, close=False)
        assert answer(witness, client, CLIENT) == "seen"
        assert answer(witness, client, Network("127.0.0.0/24")) == "seen"
        assert answer(witness, client, NOBODY) == "unseen"
        for end in ends:
            end.close()
    assert 0 < client.pttl(KEYS.witness("rp1")) <= 10_000


def test_a_connection_that_was_closed_at_once_is_seen_later(
    namespace: Namespace, nginx: socket.socket, settings: Settings, client: redis.Redis
) -> None:
    with watching(namespace, settings) as witness:
        answer(witness, client, NOBODY)
        connect(namespace, nginx, close=True)
        time.sleep(0.3)  # so that it is no longer connected at the moment that is in question
        assert answer(witness, client, CLIENT) == "unseen"
        assert answer(witness, client, CLIENT, age_ms=60_000) == "seen"


def test_what_was_before_it_looked_is_unknown(
    namespace: Namespace, nginx: socket.socket, settings: Settings, client: redis.Redis
) -> None:
    with watching(namespace, settings) as witness:
        assert answer(witness, client, NOBODY, age_ms=60_000) == "unknown"


def test_where_nothing_listens_on_the_ports_nothing_is_known(
    namespace: Namespace, settings: Settings, client: redis.Redis
) -> None:
    with watching(namespace, settings) as witness:
        assert answer(witness, client, NOBODY) == "unknown"
        assert "name nginx's own ports" in witness.trouble


@pytest.mark.parametrize("facts_", [{"chains": ("INPUT", "DOCKER-USER")}, {"protocol": "udp"}])
def test_where_the_kernel_may_not_have_the_connections_nothing_is_known(
    namespace: Namespace, nginx: socket.socket, settings: Settings, client: redis.Redis, facts_: dict[str, object]
) -> None:
    with watching(namespace, settings, **facts_) as witness:
        assert answer(witness, client, NOBODY) == "unknown"
        assert "enforcer." in witness.trouble


def test_a_kernel_that_refuses_is_told_and_asked_again(
    namespace: Namespace,
    nginx: socket.socket,
    settings: Settings,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with watching(namespace, settings) as witness:
        assert answer(witness, client, NOBODY) == "unseen"
        with monkeypatch.context() as broken:

            def refuse(*_: object) -> None:
                raise FirewallError("sock_diag: cannot: for this test")

            broken.setattr(Sockets, "open_now", refuse)
            assert answer(witness, client, NOBODY) == "unknown"
            assert "for this test" in witness.trouble
            assert "cannot see who is connected: sock_diag: cannot: for this test" in caplog.text
        wait_until(lambda: witness.trouble == "", "it looks again")
        assert answer(witness, client, NOBODY) == "unseen"
        assert answer(witness, client, NOBODY, age_ms=60_000) == "unknown"


def test_what_the_kernel_lost_is_unknown(
    namespace: Namespace,
    nginx: socket.socket,
    settings: Settings,
    client: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with watching(namespace, settings) as witness:
        time.sleep(0.5)
        assert answer(witness, client, NOBODY, age_ms=100) == "unseen"
        lose(witness, monkeypatch)
        assert answer(witness, client, NOBODY, age_ms=400) == "unknown"
        assert answer(witness, client, NOBODY) == "unseen"


def lose(witness: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the buffer overflows: recv says ENOBUFS once."""
    assert witness._sockets
    listener = witness._sockets._listener
    monkeypatch.setattr(witness._sockets, "_listener", Overflowing(listener))


class Overflowing:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._full = True

    def recv(self, size: int) -> bytes:
        if self._full:
            self._full = False
            raise OSError(errno.ENOBUFS, "no buffer space")
        return self._listener.recv(size)

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        self._listener.close()


def test_it_says_which_addresses_are_its_hosts_own(
    namespace: Namespace, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not those that each host has, nor more than a hundred: its account may be an enemy's."""
    many = [f"10.{n >> 8}.{n & 255}.1" for n in range(150)]
    monkeypatch.setattr(module, "own_addresses", lambda: {"127.0.0.1", "::1", "fe80::1", "2001:db8::5", *many})
    with watching(namespace, settings) as witness:
        told = witness.addresses.split()
    assert len(told) == 100
    assert set(told) < {"2001:db8::5", *many}


def test_answers_do_not_pile_up_in_redis(
    namespace: Namespace, nginx: socket.socket, settings: Settings, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.hset(KEYS.witness("rp1"), "of an earlier run", "unseen")
    monkeypatch.setattr(module, "_ANSWER_MS", 300)
    with watching(namespace, settings) as witness:
        for _ in range(4):
            answer(witness, client, NOBODY)
        time.sleep(0.4)
        answer(witness, client, NOBODY)
        assert len(facts(client, KEYS.witness("rp1"))) <= 2
