"""What is wrong with a deployment, and what has happened to it, read from what its daemons say. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from receiver.probes import LogPath, faults, never_answered
from shared.clock_steps import STEP_MS
from shared.durations import Milliseconds
from shared.nodes import ALIVE_MS, Node

_NUMBER = re.compile(r"-?[0-9]{1,18}")

#: Most odd things of one node that are named.
_MOST_ODD = 3

#: Enforcers report every second: a change younger than this may not be in their reports yet, ms.
SETTLED_MS = 3_000


def problems(ledger: Mapping[str, Any], nodes: list[Node], paths: Sequence[LogPath] = ()) -> list[str]:
    """What is wrong now, worst first."""
    found = [f"{n.name} has been silent for {Milliseconds(n.silent_ms)}" for n in nodes if not n.alive and not n.odd]
    alive = [n for n in nodes if n.alive]
    # Only a receiver can send heartbeats. Whoever has an enforcer's account may call himself a receiver.
    if not any(n.kind == "receiver" for n in alive) or ledger.get("heartbeat_ms", 0) > ALIVE_MS:
        found.append("no receiver is alive: nobody counts failures")
    if not any(n.kind == "enforcer" for n in alive):
        found.append("no enforcer is alive: nobody enforces new bans")
    for node in alive:
        if node.fields.get("trouble"):
            found.append(f"{node.name}: {node.fields['trouble']}")
        elif node.kind == "enforcer" and _behind(node, ledger):
            found.append(f"{node.name} is at revision {node.number('applied_rev', -1)}, the ledger at {ledger['rev']}")
    return found + [fault.text for fault in faults(paths, nodes)]


def nonsense(nodes: list[Node], key: Callable[[str], str]) -> list[str]:
    """The nodes whose hashes hold what pinban did not write; `key` names the hash of a node."""
    return [
        f"{n.name}: {key(n.name)} is not as pinban writes it ({'; '.join(n.odd[:_MOST_ODD])}). Was its host "
        f"broken into? Then ACL SETUSER enforcer-{n.name} off. Else DEL {key(n.name)}"
        for n in nodes
        if n.odd
    ]


def doubts(doubted: Mapping[str, int], judged: Mapping[str, Mapping[str, int]], nodes: Iterable[Node]) -> list[str]:
    """Senders whose lines may be forged, with the ms until they are trusted if they are quiet, and what became of their
    bans: `judged` says how many were real, forged, unknown.
    """
    nodes = list(nodes)  # read for each sender
    found = []
    for sender, left_ms in sorted(doubted.items()):
        counts = judged.get(sender, {})
        unknown = counts.get("unknown", 0)
        found.append(
            f"the lines of {sender} may be forged: they led to too many bans, so for another {Milliseconds(left_ms)} "
            f"they ban only whom an enforcer sees connected. So far {counts.get('real', 0)} bans made, "
            f"{counts.get('forged', 0)} only simulated because nobody was connected, {unknown} made for a minute at "
            f"most because no enforcer could tell{_remedy(sender, nodes) if unknown else ''}; see `pinban bans`, then "
            f"find the forger, or `pinban trust {sender}`"
        )
    return found


def _remedy(sender: str, nodes: Sequence[Node]) -> str:
    """Why nobody could tell, and what to do about it."""
    owners = [n for n in nodes if n.kind == "enforcer" and sender in n.fields.get("addresses", "").split()]
    if not owners:
        return f" (no enforcer of this version runs on the host with the address {sender}: start one there)"
    for node in owners:
        if not node.alive:
            return f" ({node.name} is silent: start its enforcer)"
        if why := node.fields.get("witness_trouble"):
            return f" ({node.name}: {why})"
    return " (its enforcer had not looked for long enough, or was too slow)"


def notes(nodes: list[Node], paths: Sequence[LogPath] = ()) -> list[str]:
    """What happened since the daemons started and an operator may want to know."""
    found = []
    for node in nodes:
        if node.fields.get("backend") == "dry-run":
            found.append(f"{node.name} enforces nothing: backend dry-run")
        if why := node.alive and never_answered(node, paths):
            found.append(f'{node.name}: {why}; include nginx/pinban.conf, or set enforcer.probe_url = ""')
        for name, meaning in (
            ("drops", "datagrams lost because the sockets' buffers were full"),
            ("urgent_dropped", "wrong PINs lost because their queue was full while Redis was away or slow"),
            (
                "ordinary_dropped",
                "other failures lost because their queue was full while Redis was away or slow",
            ),
            (
                "least_dropped",
                "failures of simulated rules, and joins, left out because too many came",
            ),
            ("abandoned", "datagrams given up because workers died on them"),
            ("refused", "datagrams refused because receiver.senders does not name their sender"),
            ("malformed", "datagrams without a line of a known format"),
            ("repairs", "repairs of a firewall that something else had changed"),
            ("bad_events", "events on the channel that pinban cannot have written"),
            ("clock_steps", "times that Redis' clock was set: bans may have ended early"),
        ):
            if count := node.number(name):
                found.append(f"{node.name}: {count} {meaning}")
        skew = node.number("clock_skew_ms")
        if node.alive and abs(skew) > STEP_MS:
            found.append(f"{node.name}: its clock is {skew / 1_000:+.1f} s from Redis'; pinban does not use it")
    return found


def enforces(node: Node) -> bool:
    """Whether this daemon is alive and drops who is banned."""
    return node.alive and node.kind == "enforcer" and node.fields.get("backend") != "dry-run"


def values(node: Node) -> dict[str, Any]:
    """A node's fields, numbers as such; `kind` is always there."""
    fields = {k: int(v) if _NUMBER.fullmatch(v) and k != "epoch" else v for k, v in node.fields.items()}
    return {"kind": "", **fields}


def _behind(node: Node, ledger: Mapping[str, Any]) -> bool:
    if ledger["unchanged_ms"] <= SETTLED_MS:
        return False
    return (node.fields.get("epoch"), node.number("applied_rev", -1)) != (ledger["epoch"], ledger["rev"])
