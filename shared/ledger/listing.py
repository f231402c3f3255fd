"""Who is banned, or would be: the ledger's bans, however many, read in small parts. Reads only."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shared.addresses import Network, parse_network
from shared.errors import AddressError, StoreError
from shared.store import Command, Store, number, text_of

#: Members that Redis is asked for at once: they take it a millisecond, in which it serves nobody else.
_PAGE = 1_000


@dataclass(frozen=True, slots=True)
class Standing:
    """One ban of the ledger, with all that is known of it. What cannot be read is empty or 0."""

    network: Network
    until_ms: int  #: Redis TIME
    simulated: bool
    rule: str
    since_ms: int
    strikes: int
    why: str  #: of a ban by hand
    evidence: Sequence[dict[str, Any]]  #: of a rule's ban: id, rp, alias, at of each failure
    by: str


@dataclass(frozen=True, slots=True)
class Members:
    """The members of a sorted set of networks."""

    networks: dict[Network, int]  #: each with its score
    unreadable: tuple[str, ...]  #: those that are no network; pinban writes none


def banned(store: Store, *, simulated: bool = False) -> Members:
    """Every network of the ledger that is banned now, with its end, ms of Redis TIME. StoreError when Redis fails."""
    now_ms = store.now_ms()
    found: dict[Network, int] = {}
    unreadable = []
    for member, until_ms in _members(store, store.keys.simulated if simulated else store.keys.bans):
        try:
            network = parse_network(text_of(member))
        except AddressError:
            unreadable.append(text_of(member))
            continue
        if until_ms > now_ms:
            found[network] = until_ms
    return Members(found, tuple(sorted(set(unreadable))))


def standing(store: Store, *, simulated: bool = False) -> list[Standing]:
    """Every ban that holds now, with all that is known of it, the longest first. StoreError when Redis fails."""
    key = store.keys.simulation if simulated else store.keys.ban
    members = sorted(banned(store, simulated=simulated).networks.items(), key=lambda each: (-each[1], each[0]))
    found = []
    for start in range(0, len(members), _PAGE):
        page = members[start : start + _PAGE]
        commands: list[Command] = [("HGETALL", key(network)) for network, _ in page]
        for (network, until_ms), held in zip(page, store.each(commands), strict=True):
            facts = {} if isinstance(held, StoreError) else {text_of(k): text_of(v) for k, v in held.items()}
            found.append(_standing(network, until_ms, facts, simulated=simulated))
    return found


def _standing(network: Network, until_ms: int, facts: dict[str, str], *, simulated: bool) -> Standing:
    try:
        evidence: Any = json.loads(facts.get("evidence") or "[]")
    except (ValueError, RecursionError):
        evidence = []
    return Standing(
        network,
        until_ms,
        simulated,
        facts.get("rule", ""),
        number(facts.get("since")),
        number(facts.get("strikes")),
        str(evidence.get("why", "")) if isinstance(evidence, dict) else "",
        [each for each in evidence if isinstance(each, dict)] if isinstance(evidence, list) else [],
        facts.get("by", ""),
    )


def _members(store: Store, key: str) -> Iterator[tuple[bytes, int]]:
    """All members with their scores, by ZSCAN: one that is there all the time is found, maybe twice."""
    cursor = 0
    while True:
        cursor, reply = store.call("ZSCAN", key, cursor, "COUNT", _PAGE)
        yield from ((member, int(min(max(score, -1e18), 1e18))) for member, score in reply)
        if not int(cursor):
            return
