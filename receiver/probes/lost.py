"""The paths of the log, from an RP's nginx to a receiver, and whether lines get lost on them. Pure.

Judged by numbers alone: what an enforcer knows that nginx answered is compared with what a receiver saw of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec

from shared.durations import Milliseconds
from shared.nodes import Node
from shared.probe import TOGETHER

#: The last probes of a path, from which its loss is computed.
WINDOW = 60

#: Rounds of probes in a row that must be missing before a path counts as cut: with one every 5 s, noticed within 30 s.
_CUT = 3

#: Probes in a row that are missing because the path was cut for a while: more than one round.
_ROW = TOGETHER + 1

#: Receivers and enforcers report to Redis every second, so one may be ahead: no path is cut before this time, ms.
_HASTE_MS = 5_000

#: Probes of a window that may be missing here and there: one in twenty.
_MISSING = WINDOW // 20

#: A long row was a cut, and reported as one while it lasted: it must not look like a lossy path afterwards.
_ROWS = re.compile("0" * _ROW + "+")


#: The greatest number that Lua's doubles hold exactly.
_MOST = 2**53

_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class Seen(msgspec.Struct, frozen=True):
    """What Redis holds of a path; receiver/probes/seen.lua writes it."""

    instance: Annotated[str, msgspec.Meta(max_length=64)]
    last: _Count
    window: Annotated[str, msgspec.Meta(pattern=f"^[01]{{1,{WINDOW}}}$")]
    seen: _Count
    lag: Annotated[int, msgspec.Meta(ge=-1, le=_MOST)]


@dataclass(frozen=True, slots=True)
class LogPath:
    """What a receiver saw of an RP's probes."""

    rp: str
    receiver: str
    instance: str  #: of the enforcer whose probes these are
    last: int  #: the highest number seen
    window: str  #: the last numbers up to that one, 1 for seen and 0 for missing
    silent_ms: int  #: since the last probe came
    lag_ms: int | None  #: of that probe, from the request to nginx until its line was read

    @property
    def missing(self) -> int:
        """How many of the window's probes did not come."""
        return self.window.count("0")

    @property
    def scattered(self) -> int:
        """Those of them that are missing here and there, not in a row as when the path is cut."""
        return _ROWS.sub("", self.window).count("0")


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the log of an RP."""

    kind: Literal["cut", "lossy", "mute"]
    rp: str
    receiver: str  #: "" when it is not about one path
    text: str


def decode_path(name: bytes | str, value: bytes | str, now_ms: int) -> LogPath | None:
    """The path in a field of the hash `probes` and its value; None for what pinban did not write."""
    text = name if isinstance(name, str) else name.decode("utf-8", "replace")
    receiver, _, rp = text.partition(" ")
    try:
        seen = msgspec.json.decode(value, type=Seen)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    silent_ms = max(now_ms - seen.seen, 0)
    return LogPath(rp, receiver, seen.instance, seen.last, seen.window, silent_ms, seen.lag if seen.lag >= 0 else None)


def faults(paths: Sequence[LogPath], nodes: Iterable[Node]) -> list[Fault]:
    """What is wrong with the log of each RP whose enforcer is alive and sends probes, on its way to live receivers."""
    nodes = list(nodes)  # read twice
    receivers = {n.name for n in nodes if n.alive and n.kind == "receiver"}
    found = []
    for node in watched(nodes):
        found += _faults_of(node, [path for path in paths if path.rp == node.name], receivers)
    return found


def watched(nodes: Iterable[Node]) -> list[Node]:
    """The enforcers that are alive and send probes."""
    return [node for node in nodes if node.alive and node.kind == "enforcer" and node.number("probes_sent", -1) >= 0]


def never_answered(node: Node, paths: Sequence[LogPath]) -> str:
    """Why nginx never answered a probe of this enforcer, or "". It may not be set up for probes: no fault."""
    if node.number("probes_sent", -1) or any(path.rp == node.name for path in paths):
        return ""
    return node.fields.get("probe_trouble", "")


def _faults_of(node: Node, paths: Sequence[LogPath], receivers: set[str]) -> list[Fault]:
    trouble = node.fields.get("probe_trouble", "")
    if trouble:
        return [] if never_answered(node, paths) else [Fault("mute", node.name, "", f"{node.name}: {trouble}")]
    if not paths and receivers and _behind(node, None) >= _patience(node):
        text = f"{node.name}: no line of its nginx has come to a receiver; is the address in its access_log right?"
        return [Fault("cut", node.name, "", text)]
    found = []
    for path in paths:
        if path.receiver not in receivers:
            continue
        if _behind(node, path) >= _patience(node):
            ago = Milliseconds(path.silent_ms // 1_000 * 1_000)
            text = f"{node.name}: no line of its nginx has come to {path.receiver} for {ago}; requests go uncounted"
            found.append(Fault("cut", node.name, path.receiver, text))
        elif path.scattered > _MISSING:
            text = (
                f"{node.name}: {path.missing} of the last {len(path.window)} probes through its nginx "
                f"did not come to {path.receiver}; the same share of requests may go uncounted"
            )
            found.append(Fault("lossy", node.name, path.receiver, text))
    return found


def _behind(node: Node, path: LogPath | None) -> int:
    """How many probes nginx answered after the last one that came."""
    sent = node.number("probes_sent")
    return sent - path.last if path and path.instance == node.fields.get("instance") else sent


def _patience(node: Node) -> int:
    return TOGETHER * max(_CUT, -(-_HASTE_MS // max(node.number("probe_every_ms", 1), 1)))
