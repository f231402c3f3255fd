"""The ledger's history as rows: every ban, unban and room under attack, with who and why. Reads only."""

from __future__ import annotations

import json
from typing import Any

import redis

from shared.durations import Milliseconds
from shared.settings import Settings
from shared.store import Keys, understood

Row = dict[str, Any]

#: Entries read at once while one is looked for.
_PAGE = 1_000


class History:
    """The history of one deployment. Every method raises StoreError when Redis fails."""

    def __init__(self, settings: Settings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        self._key = Keys(settings.redis.prefix).history

    def newest(self, limit: int, network: str = "") -> list[Row]:
        """The newest entries, of one network if it is named, oldest first."""
        found: list[Row] = []
        before = "+"
        with understood(self._settings):
            while len(found) < limit:
                page: Any = self._client.xrevrange(self._key, max=before, count=_PAGE)
                if not page:
                    break
                found += [row for row in map(_row, page) if not network or row.get("network") == network]
                before = f"({page[-1][0].decode()}"
        return found[:limit][::-1]

    def last(self) -> str:
        """The id of the newest entry, to ask `since` with."""
        with understood(self._settings):
            newest: Any = self._client.xrevrange(self._key, count=1)
            return str(newest[0][0].decode()) if newest else "0-0"

    def since(self, id_: str) -> list[Row]:
        """The entries after the one of this id, oldest first."""
        with understood(self._settings):
            page: Any = self._client.xrange(self._key, min=f"({id_}", count=_PAGE)
            return [_row(entry) for entry in page]


def sentence(row: Row) -> str:
    """What happened, in one line without its time."""
    by = f", by {row['by']}" if row.get("by") else ""
    match row["event"]:
        case "ban" | "simulated":
            done = "banned" if row["event"] == "ban" else "would ban (simulated)"
            length = Milliseconds(row["bantime_ms"])
            return f"{done} {row['network']} for {length}, rule {row['rule']}{_because(row)}{by}"
        case "unban":
            return f"unbanned {row['network']}{_because(row)}{by}"
        case "hot":
            counts = f"{row.get('failures')} wrong PINs from {row.get('addresses')} addresses"
            return f"room {row.get('room')} is under attack: {counts}{by}"
        case "doubt":
            return f"only doubts {row.get('sender')}: more than {row.get('most')} bans in a minute on its word{by}"
        case "trust":
            return f"trusts {row.get('sender')} again{by}"
        case "allow":
            return f"allowed {row['network']}{_because(row)}{by}"
        case "disallow":
            return f"took {row['network']} off the allow-list{by}"
    rest = ", ".join(f"{k} {v}" for k, v in row.items() if k not in ("id", "at_ms", "event", "by", "evidence"))
    return f"{row['event']}: {rest}{by}"


def _because(row: Row) -> str:
    if row.get("why"):
        return f" ({row['why']})"
    rooms = sorted({str(each.get("alias", "")) for each in row.get("evidence", ())} - {""})
    return f"; room {', '.join(rooms[:3])}{f' and {len(rooms) - 3} more' if len(rooms) > 3 else ''}" if rooms else ""


def _row(entry: Any) -> Row:
    id_, fields = entry
    row: Row = {"id": id_.decode(), "at_ms": int(id_.partition(b"-")[0])}
    row |= {name.decode(): value.decode("utf-8", "replace") for name, value in fields.items()}
    row.setdefault("event", "")
    for name in ("until", "bantime"):
        if name in row:
            row[f"{name}_ms"] = int(row.pop(name))
    if "until_ms" in row:  # an entry of before may lack its bantime; Redis reads its clock for an id a moment later
        row.setdefault("bantime_ms", row["until_ms"] - row["at_ms"])
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
    except ValueError:
        return None
