"""The hash that each daemon writes about itself, and reading them all: who is alive, and how far along."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import redis

from shared.clock import RedisClock
from shared.clock_steps import Steps
from shared.settings import Settings
from shared.store import Keys, now_ms, translated, understood

#: A node that was silent for longer is not alive, ms. They write every second or two.
ALIVE_MS = 7_000

#: A node that is gone is shown for this long, ms: whoever looks in the morning sees who died at night.
KEPT_MS = 86_400_000

#: A look for new daemons goes through all keys of Redis, counters and all, so it is not for every second, s.
FIND_EVERY_S = 60.0


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

    def __init__(
        self, settings: Settings, client: redis.Redis, name: str, instance: str, clock: RedisClock | None = None
    ) -> None:
        """`instance` tells this daemon from all others; the processes of one daemon share it. `clock` learns."""
        self._settings = settings
        self._client = client
        self._key = Keys(settings.redis.prefix).node(name)
        self._instance = instance
        self._clock = clock or RedisClock()
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
            before_s = time.monotonic()
            seen_ms = now_ms(self._client)
            after_s = time.monotonic()
            self._clock.learn(seen_ms, before_s, after_s)
            if after_s - before_s < 1.0:  # else it is not known which moment the answer is of
                self._stepped_ms += self._steps.look(seen_ms, int(before_s * 1_000))
            skew = ("clock_skew_ms", time.time_ns() // 1_000_000 - seen_ms)
            rows = (*fields.items(), skew, ("seen", seen_ms), ("instance", self._instance))
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
    return NodeReader(settings, client).read()


class NodeReader:
    """Reads every daemon's hash, again and again; looks for new daemons once in FIND_EVERY_S."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._prefix = Keys(settings.redis.prefix).node("")
        self._names: list[str] = []
        self._found_at = -FIND_EVERY_S

    def read(self) -> list[Node]:
        """Every daemon of the last day, by name. StoreError when Redis fails."""
        with understood(self._settings):
            if time.monotonic() - self._found_at >= FIND_EVERY_S:
                self._names, self._found_at = self._find(), time.monotonic()
            now = now_ms(self._client)
            pipeline = self._client.pipeline(transaction=False)
            for name in self._names:
                pipeline.hgetall(self._prefix + name)
            nodes = []
            for name, held in zip(self._names, pipeline.execute() if self._names else (), strict=True):
                fields = {_text(k): _text(v) for k, v in held.items()}
                if fields:
                    # Seen in the future: it was last seen before Redis' clock was set back.
                    seen = fields.pop("seen", "")
                    nodes.append(Node(name, abs(now - int(seen)) if seen.isdecimal() else now, fields))
            return nodes

    def _find(self) -> list[str]:
        pattern = self._prefix.replace("[", r"\[") + "*"
        keys = {_text(key) for key in self._client.scan_iter(match=pattern, count=10_000)}  # a scan may repeat a key
        return sorted(key.removeprefix(self._prefix) for key in keys)


def _text(reply: bytes | str) -> str:
    """Whatever a daemon wrote: one that writes nonsense must not hide the others."""
    return reply.decode(errors="replace") if isinstance(reply, bytes) else reply
