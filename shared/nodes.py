"""The hash that each daemon writes about itself, and reading them all: who is alive, and how far along."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import redis

from shared.keys import Keys
from shared.settings import Settings
from shared.store import now_ms, translated

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


def write_node(settings: Settings, client: redis.Redis, name: str, fields: Mapping[str, str | int]) -> None:
    """Write a daemon's hash; `seen`, ms of Redis TIME, is added. StoreError when Redis fails."""
    key = Keys(settings.redis.prefix).node(name)
    with translated(settings):
        seen = now_ms(client)
        pipeline = client.pipeline(transaction=True)
        pipeline.hset(key, items=[item for pair in (*fields.items(), ("seen", seen)) for item in pair])
        pipeline.pexpire(key, KEPT_MS)
        pipeline.execute()


def read_nodes(settings: Settings, client: redis.Redis) -> list[Node]:
    """Every daemon of the last day, by name. StoreError when Redis fails."""
    prefix = Keys(settings.redis.prefix).node("")
    with translated(settings):
        now = now_ms(client)
        pattern = prefix.replace("[", r"\[") + "*"
        keys = [_text(key) for key in client.scan_iter(match=pattern, count=10_000)]
        nodes = []
        for name in sorted(key.removeprefix(prefix) for key in keys):
            fields = {_text(k): _text(v) for k, v in client.hgetall(prefix + name).items()}
            if fields:
                nodes.append(Node(name, max(now - int(fields.pop("seen", 0)), 0), fields))
        return nodes


def _text(reply: bytes | str) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply
