"""The hash that each daemon writes about itself, and reading all of them: who is alive, and at which revision."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from shared.clock import RedisClock
from shared.clock_steps import Steps
from shared.errors import BadDataError, StoreError
from shared.store import Command, Store, milliseconds, number, text_of

#: A node that was silent for longer is not alive, ms. They write every second or two.
ALIVE_MS = 7_000

#: A node that is gone is shown for this long, ms: in the morning one sees what died at night.
KEPT_MS = 86_400_000

#: Most nodes that are read; a deployment has some tens.
MOST_NODES = 1_000

#: Longest name of a node that is read; no setting allows a longer one.
_LONGEST_NAME = 32

#: Most fields of a hash that are read, and most characters of each; pinban writes some thirty, mostly numbers.
_MOST_FIELDS, _LONGEST_VALUE = 100, 2_000

_FIELD = re.compile(r"[a-z][a-z0-9_]{0,31}", re.ASCII)

#: What is told beside the fields of a hash, so none of them may have that name.
_TAKEN = frozenset({"name", "alive", "silent_ms"})

#: The fields that are judged as numbers, and those of them that may be below 0.
_NUMBERS = frozenset({
    "seen", "clock_skew_ms", "applied_rev", "probes_sent", "probe_every_ms", "bans", "queued", "drops", "queue_dropped",
    "abandoned", "refused", "malformed", "repairs", "bad_events", "clock_steps",
})  # fmt: skip
_SIGNED = frozenset({"clock_skew_ms", "applied_rev", "probes_sent"})

#: Below all that `number` reads.
_NO_NUMBER = -(10**18)

_KINDS = ("receiver", "enforcer")


@dataclass(frozen=True, slots=True)
class Node:
    """One daemon, as it last described itself.

    The host of an enforcer faces the internet: who breaks into it may write anything into this hash, so all of it is
    bounded, and what pinban cannot have written is `odd`. It hides nothing about the other nodes.
    """

    name: str
    silent_ms: int  #: since it last wrote, by Redis TIME; at most KEPT_MS
    fields: Mapping[str, str]
    odd: tuple[str, ...] = ()  #: what in its hash pinban did not write, for people

    @property
    def kind(self) -> str:
        """receiver or enforcer; "" when its hash does not say so."""
        return self.fields.get("kind", "")

    @property
    def alive(self) -> bool:
        """Whether it wrote lately."""
        return self.silent_ms <= ALIVE_MS

    def number(self, name: str, default: int = 0) -> int:
        """A field as a number; the default when it is no number."""
        return number(self.fields.get(name), default)


class NodeWriter:
    """Writes one daemon's hash, and notices when another daemon has the same name."""

    def __init__(self, store: Store, name: str, instance: str, clock: RedisClock | None = None) -> None:
        """`instance` tells this daemon from all others; its processes share it. `clock` learns Redis' time."""
        self._store = store
        self._name = name
        self._key = store.keys.node(name)
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
        before_s = time.monotonic()
        seen_ms = self._store.now_ms()
        after_s = time.monotonic()
        self._clock.learn(seen_ms, before_s, after_s)
        if after_s - before_s < 1.0:  # else the moment of the answer is not known well enough
            self._stepped_ms += self._steps.look(seen_ms, int(before_s * 1_000))
        skew_ms = time.time_ns() // 1_000_000 - seen_ms
        told = (
            (name, value[: _LONGEST_VALUE // 4] if isinstance(value, str) else value) for name, value in fields.items()
        )
        rows = (*told, ("clock_skew_ms", skew_ms), ("seen", seen_ms), ("instance", self._instance))
        before, *_ = self._store.whole(
            [
                ("HGET", self._key, "instance"),
                ("HSET", self._key, *(word for row in rows for word in row)),
                ("PEXPIRE", self._key, KEPT_MS),
            ]
        )
        self._store.each([("SADD", self._store.keys.nodes, self._name)])  # only an index: without it readers scan
        alone = not self._established or before is None or before == self._instance.encode()
        self._established = True
        return alone


def read_nodes(store: Store) -> list[Node]:
    """Every daemon of the last day, by name. StoreError when Redis fails."""
    names = _names(store)
    now_ms, *hashes = store.each([("TIME",), *(("HGETALL", store.keys.node(name)) for name in names)])
    if isinstance(now_ms, StoreError):
        raise now_ms
    found = []
    for name, held in zip(names, hashes, strict=True):
        if isinstance(held, BadDataError):
            found.append(Node(name, KEPT_MS, {}, ("it is no hash",)))
        elif not isinstance(held, StoreError) and held:
            found.append(node_of(name, held, milliseconds(now_ms)))
    return found


def node_of(name: str, held: Mapping[bytes, bytes], now_ms: int) -> Node:
    """The node that this hash tells of at this moment of Redis TIME, whatever is in it. Pure."""
    fields, odd = {}, [f"it has {len(held)} fields"] if len(held) > _MOST_FIELDS else []
    for raw, value in islice(held.items(), _MOST_FIELDS):
        field, text = text_of(raw[:64]), text_of(value[: 4 * _LONGEST_VALUE])[:_LONGEST_VALUE]
        if not _FIELD.fullmatch(field) or field in _TAKEN:
            odd.append(f"it has a field {field[:_LONGEST_NAME]!r}")
        elif field in _NUMBERS and not _is_number(field, text):
            odd.append(f"{field} is {text[:20]!r}")
        else:
            fields[field] = text
            if len(value) > _LONGEST_VALUE:
                odd.append(f"{field} has {len(value)} bytes")
    if fields.get("kind") not in _KINDS:
        odd.append("it does not say whether it is a receiver or an enforcer")
    seen = fields.pop("seen", "")
    if not seen:
        odd.append("it does not say when it was written")
    silent_ms = min(abs(now_ms - number(seen)), KEPT_MS)  # seen in the future: Redis' clock was set back
    return Node(name, silent_ms, fields, tuple(odd))


def _is_number(field: str, text: str) -> bool:
    read = number(text, _NO_NUMBER)
    return read != _NO_NUMBER and (read >= 0 or field in _SIGNED)


def index_nodes(store: Store) -> None:
    """Make the index list the nodes that Redis holds: for one worker, once a minute. StoreError when Redis fails."""
    key = store.keys.nodes
    [indexed] = store.each([("SRANDMEMBER", key, MOST_NODES + 1)])
    held = {name.encode() for name in _searched(store)}
    if isinstance(indexed, StoreError) or len(indexed) > MOST_NODES:  # an enforcer may write it, and may be an enemy's
        store.call("DEL", key)
        indexed = []
    changes: list[Command] = [("SADD", key, name) for name in held.difference(indexed)]
    changes += [("SREM", key, name) for name in set(indexed) - held]
    store.together(changes)


def _names(store: Store) -> list[str]:
    """The names in the index. Where it is missing or too long, all keys of Redis are searched for hashes of nodes."""
    [known] = store.each([("SRANDMEMBER", store.keys.nodes, MOST_NODES + 1)])
    if isinstance(known, StoreError) or not 0 < len(known) <= MOST_NODES:
        return sorted(_searched(store))
    return sorted({text_of(name) for name in known if len(name) <= _LONGEST_NAME})


def _searched(store: Store) -> set[str]:
    prefix = store.keys.node("")
    found = {text_of(key).removeprefix(prefix) for key in store.scan(prefix.replace("[", r"\[") + "*")}
    return set(sorted(name for name in found if len(name) <= _LONGEST_NAME)[:MOST_NODES])
