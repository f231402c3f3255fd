"""A witness that says what it is told to say: the side of the enforcer in the question about a doubted sender."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

import redis

from shared.events import Question, decode
from tests.lab.process import PATIENCE_S, wait_until
from tests.redis.conftest import KEYS


class StandIn(threading.Thread):
    """Answers each question about a network with `say(network)`; not at all when that is ""."""

    def __init__(self, client: redis.Redis, rp: str, say: Callable[[str], str]) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._key = KEYS.witness(rp)
        self._say = say
        self.asked: list[Question] = []
        self.ready = threading.Event()
        self.stopping = threading.Event()

    def run(self) -> None:
        with self._client.pubsub() as channel:  # type: ignore[no-untyped-call]
            channel.subscribe(KEYS.channel)
            while not self.stopping.is_set():
                message = channel.get_message(timeout=0.05)
                if message and message["type"] == "subscribe":
                    self.ready.set()
                if not message or message["type"] != "message":
                    continue
                event = decode(message["data"])
                if isinstance(event, Question):
                    self.asked.append(event)
                    if said := self._say(event.network):
                        self._client.hset(self._key, f"{event.network} {event.id}", said)


@contextmanager
def witness(client: redis.Redis, rp: str, addresses: Collection[str], say: Callable[[str], str]) -> Iterator[StandIn]:
    """The enforcer of this RP is alive, says that its host has these addresses, and answers inside the block."""
    describe(client, rp, addresses)
    answering = StandIn(client, rp, say)
    answering.start()
    assert answering.ready.wait(PATIENCE_S)
    try:
        yield answering
    finally:
        answering.stopping.set()
        wait_until(lambda: not answering.is_alive(), "the witness has ended")


def describe(client: redis.Redis, rp: str, addresses: Collection[str], *, silent_s: float = 0) -> None:
    """Write the node's hash of an enforcer."""
    seconds, microseconds = client.time()
    seen = int((seconds + microseconds / 1e6 - silent_s) * 1_000)
    client.hset(KEYS.node(rp), mapping={"kind": "enforcer", "addresses": " ".join(addresses), "seen": seen})
    client.sadd(KEYS.nodes, rp)
