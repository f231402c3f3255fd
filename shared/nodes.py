"""The hash that each daemon writes about itself, and reading them all: who is alive, and how far along."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import redis

from shared.keys import Keys
from shared.settings import Settings
from shared.steps import STEP_MS, Steps
from shared.store import now_ms, translated, understood

#: A node that was silent for longer is not alive, ms. They write every second or two.
ALIVE_MS = 7_000

#: A node that is gone is shown for this long, ms: whoever looks in the morning sees who died at night.
KEPT_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Node:
    """One daemon, as it last described itself."""

    name: str
    silent_ms: int  #: since it last wrote, by Redis TIME
    fields: Mapping[str, str]

    @property
    def alive(self) -> bool:
        """Whether it wrote lately."""
        return self.silent_ms <= ALIVE_MS


class NodeWriter:
    """Writes one daemon's hash, and notices when another daemon goes by the same name."""

    def __init__(self, settings: Settings, client: redis.Redis, name: str, instance: str) -> None:
        """`instance` tells this daemon from all others; the processes of one daemon share it."""
        self._settings = settings
        self._client = client
        self._key = Keys(settings.redis.prefix).node(name)
        self._instance = instance
        self._established = False
        self._steps = Steps()
        self._stepped_ms = 0

    def stepped(self) -> int:
        """By how much Redis' clock was set since this was last asked, ms; 0 when it was not."""
        step, self._stepped_ms = self._stepped_ms, 0
        return step

    def write(self, fields: Mapping[str, str | int]) -> bool:
        """Write the hash; `seen`, ms of Redis TIME, `instance` and `clock_skew_ms` are added. StoreError when Redis
        fails.

        False when another daemon wrote since our last time: both have the same name, and each hides the other.
        """
        with translated(self._settings):
            asked = time.monotonic_ns() // 1_000_000
            now = now_ms(self._client)
            took = time.monotonic_ns() // 1_000_000 - asked
            if took < STEP_MS // 4:  # else it is not known which moment the answer is of
                self._stepped_ms += self._steps.look(now, asked)
            skew = ("clock_skew_ms", time.time_ns() // 1_000_000 - now)
            rows = (*fields.items(), skew, ("seen", now), ("instance", self._instance))
            pipeline = self._client.pipeline(transaction=True)
            pipeline.hget(self._key, "instance")
            pipeline.hset(self._key, items=[item for row in rows for item in row])
            pipeline.pexpire(self._key, KEPT_MS)
            before = pipeline.execute()[0]
        alone = not self._established or before is None or before == self._instance.encode()
        self._established = True
        return alone


def read_nodes(settings: Settings, client: redis.Redis) -> list[Node]:
    """Every daemon of the last day, by name. StoreError when Redis fails."""
    prefix = Keys(settings.redis.prefix).node("")
    with understood(settings):
        now = now_ms(client)
        pattern = prefix.replace("[", r"\[") + "*"
        keys = {_text(key) for key in client.scan_iter(match=pattern, count=10_000)}  # a scan may repeat a key
        nodes = []
        for name in sorted(key.removeprefix(prefix) for key in keys):
            fields = {_text(k): _text(v) for k, v in client.hgetall(prefix + name).items()}
            if fields:
                # Seen in the future: it was last seen before Redis' clock was set back.
                nodes.append(Node(name, abs(now - int(fields.pop("seen", 0))), fields))
        return nodes


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply
