"""The routes of the log, from an RP's nginx to a receiver, and whether lines get lost on them. Pure.

Judged by numbers alone: what an enforcer knows that nginx answered is compared with what a receiver saw of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec

from shared.durations import Milliseconds
from shared.nodes import Node
from shared.probe import TOGETHER

#: Beats that a route's loss is told of.
WINDOW = 60

#: Rounds of beats in a row that must be missing before a route counts as cut: with one every 5 s, noticed within 30 s.
_CUT = 3

#: Beats in a row that are missing because the route was cut for a while: more than one round.
_ROW = TOGETHER + 1

#: Receivers and enforcers tell Redis every second, so that one may be ahead of the other; so long no route is cut, ms.
_HASTE_MS = 5_000

#: Beats of a window that may be missing here and there: one in twenty.
_MISSING = WINDOW // 20

#: It was told of when it was there, if it was long, and must not look like a lossy route when it is over.
_ROWS = re.compile("0" * _ROW + "+")


class Seen(msgspec.Struct, frozen=True):
    """What the ledger holds of a route; receiver/probes/seen.lua writes it."""

    instance: str
    last: int
    window: str
    seen: int
    lag: int


@dataclass(frozen=True, slots=True)
class Route:
    """What a receiver saw of an RP's beats."""

    rp: str
    receiver: str
    instance: str  #: of the enforcer whose beats these are
    last: int  #: the highest number seen
    window: str  #: the last numbers up to that one, 1 for seen and 0 for missing
    silent_ms: int  #: since the last beat came
    lag_ms: int | None  #: from the question to nginx until its line was read, of that beat

    @property
    def missing(self) -> int:
        """How many of the window's beats did not come."""
        return self.window.count("0")

    @property
    def scattered(self) -> int:
        """Those of them that are missing here and there, not in a row as when the route is cut."""
        return _ROWS.sub("", self.window).count("0")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the log of an RP."""

    kind: Literal["cut", "lossy", "mute"]
    rp: str
    receiver: str  #: "" when it is not one route alone
    text: str


def decode_route(name: bytes | str, value: bytes | str, now_ms: int) -> Route | None:
    """A field of the hash `beats` and its value; None when it is not ours."""
    text = name if isinstance(name, str) else name.decode("utf-8", "replace")
    receiver, _, rp = text.partition(" ")
    try:
        seen = msgspec.json.decode(value, type=Seen)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    silent_ms = max(now_ms - seen.seen, 0)
    return Route(rp, receiver, seen.instance, seen.last, seen.window, silent_ms, seen.lag if seen.lag >= 0 else None)


def faults(routes: Sequence[Route], nodes: Iterable[Node]) -> list[Fault]:
    """What is wrong with the log of each RP whose enforcer is alive and sends beats, on its way to living receivers."""
    nodes = list(nodes)  # read twice
    receivers = {n.name for n in nodes if n.alive and n.fields.get("kind") == "receiver"}
    found = []
    for node in watched(nodes):
        found += _faults_of(node, [route for route in routes if route.rp == node.name], receivers)
    return found


def watched(nodes: Iterable[Node]) -> list[Node]:
    """The enforcers that are alive and send beats."""
    return [
        node
        for node in nodes
        if node.alive and node.fields.get("kind") == "enforcer" and _number(node.fields, "beats_sent", -1) >= 0
    ]


def never_answered(node: Node, routes: Sequence[Route]) -> str:
    """Why nginx never answered a beat of this enforcer, or "": nobody may have told it to, so it is no fault."""
    if _number(node.fields, "beats_sent", -1) or any(route.rp == node.name for route in routes):
        return ""
    return node.fields.get("beat_trouble", "")


def _faults_of(node: Node, routes: Sequence[Route], receivers: set[str]) -> list[Fault]:
    trouble = node.fields.get("beat_trouble", "")
    if trouble:
        return [] if never_answered(node, routes) else [Fault("mute", node.name, "", f"{node.name}: {trouble}")]
    if not routes and receivers and _behind(node, None) >= _patience(node):
        text = f"{node.name}: no line of its nginx has come to a receiver; is the address in its access_log right?"
        return [Fault("cut", node.name, "", text)]
    found = []
    for route in routes:
        if route.receiver not in receivers:
            continue
        if _behind(node, route) >= _patience(node):
            ago = Milliseconds(route.silent_ms // 1_000 * 1_000)
            text = f"{node.name}: no line of its nginx has come to {route.receiver} for {ago}; requests go uncounted"
            found.append(Fault("cut", node.name, route.receiver, text))
        elif route.scattered > _MISSING:
            text = (
                f"{node.name}: of its nginx's last {len(route.window)} beats {route.missing} "
                f"did not come to {route.receiver}; so many requests may go uncounted"
            )
            found.append(Fault("lossy", node.name, route.receiver, text))
    return found


def _behind(node: Node, route: Route | None) -> int:
    """How many beats nginx answered after the last one that came."""
    sent = _number(node.fields, "beats_sent", 0)
    return sent - route.last if route and route.instance == node.fields.get("instance") else sent


def _patience(node: Node) -> int:
    return TOGETHER * max(_CUT, -(-_HASTE_MS // max(_number(node.fields, "beat_every_ms", 1), 1)))


def _number(fields: Mapping[str, str], name: str, default: int) -> int:
    text = fields.get(name, "")
    return int(text) if text.removeprefix("-").isdecimal() else default
