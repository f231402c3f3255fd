"""The ledger's history as rows: every ban, unban and room under attack, with who and why. Reads only."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from shared.durations import Milliseconds
from shared.store import Store, number, text_of

Row = dict[str, Any]

#: Entries read in one round trip.
_PAGE = 1_000


class History:
    """The history of one deployment. Every method raises StoreError when Redis fails."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = store.keys.history

    def newest(self, limit: int, network: str = "") -> list[Row]:
        """The newest entries, of one network if it is named, oldest first."""
        found: list[Row] = []
        before = "+"
        while len(found) < limit:
            page = self._store.call("XREVRANGE", self._key, before, "-", "COUNT", _PAGE)
            if not page:
                break
            found += [row for row in map(_row, page) if not network or row.get("network") == network]
            before = f"({page[-1][0].decode()}"
        return found[:limit][::-1]

    def last(self) -> str:
        """The id of the newest entry, to ask `since` with."""
        newest = self._store.call("XREVRANGE", self._key, "+", "-", "COUNT", 1)
        return str(newest[0][0].decode()) if newest else "0-0"

    def since(self, id_: str) -> list[Row]:
        """The entries after the one of this id, oldest first."""
        return [_row(entry) for entry in self._store.call("XRANGE", self._key, f"({id_}", "+", "COUNT", _PAGE)]


def sentence(row: Row) -> str:
    """What happened, in one line without its time. If it lacks a field, as none of pinban's does, the line says so."""
    try:
        return _SENTENCES[row["event"]](row) + (f", by {row['by']}" if row.get("by") else "")
    except KeyError as missing:
        rest = ", ".join(f"{k} {v}" for k, v in row.items() if k not in ("id", "at_ms", "event"))
        why = f"an entry without {missing}" if row["event"] in _SENTENCES else row["event"] or "an entry without event"
        return f"{why}: {rest}"


def _banned(row: Row) -> str:
    done = "would ban (simulated)" if row["event"] == "simulated" else "banned"
    return f"{done} {row['network']} for {Milliseconds(row['bantime_ms'])}, rule {row['rule']}{_because(row)}"


#: What each event is told as.
_SENTENCES: dict[str, Callable[[Row], str]] = {
    "ban": _banned,
    "simulated": _banned,
    "unban": lambda row: f"unbanned {row['network']}{_because(row)}",
    "hot": lambda row: (
        f"room {row['room']} is under attack: {row['failures']} wrong PINs from {row['addresses']} networks"
    ),
    "doubt": lambda row: (
        f"doubts {row['sender']}: more than {row['most']} bans in a minute by its lines; "
        "they ban only whom an enforcer sees connected"
    ),
    "trust": lambda row: f"trusts {row['sender']} again",
    "allow": lambda row: f"allowed {row['network']}{_because(row)}",
    "disallow": lambda row: f"took {row['network']} off the allow-list",
}


def _because(row: Row) -> str:
    if row.get("why"):
        return f" ({row['why']})"
    rooms = sorted({str(each.get("alias", "")) for each in row.get("evidence", ())} - {""})
    return f"; room {', '.join(rooms[:3])}{f' and {len(rooms) - 3} more' if len(rooms) > 3 else ''}" if rooms else ""


def _row(entry: Any) -> Row:
    id_, fields = entry
    row: Row = {"id": id_.decode(), "at_ms": int(id_.partition(b"-")[0])}
    row |= {text_of(name): text_of(value) for name, value in fields.items()}
    row.setdefault("event", "")
    for name in ("until", "bantime"):
        if name in row:
            row[f"{name}_ms"] = number(row.pop(name))
    for name in ("evidence", "facts"):
        found = _json(row.pop(name)) if name in row else None
        if isinstance(found, list):
            row[name] = [each for each in found if isinstance(each, dict)]
        elif isinstance(found, dict):
            row["why"] = str(found.get("why") or found.get("note") or "")
    return row


def _json(text: str) -> Any:
    try:
        return json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
