"""What a mail about bans says. Pure: entries of the history in, a message out; nothing of it is raw log text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Any

from shared.printable import printable
from shared.settings import Mail

#: Events of the history that are mailed.
TOLD = ("ban", "simulated", "hot", "doubt")

#: Most events that one mail describes; of the others it gives the number.
_MOST = 50

Entry = Mapping[str, str]


def message(mail: Mail, entries: Sequence[Entry], node: str) -> EmailMessage:
    """The mail about at least one entry of the history, each of an event in TOLD; sent by the receiver `node`."""
    message = EmailMessage()
    message["Subject"] = f"[pinban] {_headline(entries)}"
    message["From"] = mail.sender
    message["To"] = ", ".join(mail.to)
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic reply to it
    parts = [_told(entry) for entry in entries[:_MOST]]
    if len(entries) > _MOST:
        parts.append(f"and {len(entries) - _MOST} more; pinban history shows them all\n")
    parts.append(f"-- \nreceiver {node}; all times are UTC\n")
    message.set_content("\n".join(parts))
    return message


def _headline(entries: Sequence[Entry]) -> str:
    if len(entries) > 1:
        bans = sum(entry["event"] == "ban" for entry in entries)
        return f"{bans} bans, {len(entries) - bans} other events"
    [entry] = entries
    match entry["event"]:
        case "hot":
            return f"room {_plain(entry.get('room'))} is under attack"
        case "doubt":
            return f"{_plain(entry.get('sender'))} is doubted: too many bans by its lines"
        case "simulated":
            return f"would ban {_plain(entry.get('network'))}, rule {_plain(entry.get('rule'))} (simulated)"
    return f"banned {_plain(entry.get('network'))}, rule {_plain(entry.get('rule'))}"


def _told(entry: Entry) -> str:
    by = _plain(entry.get("by"))
    if entry["event"] == "hot":
        return (
            f"Room {_plain(entry.get('room'))} is under attack: {_plain(entry.get('failures'))} wrong PINs from"
            f" {_plain(entry.get('addresses'))} networks, noticed by {by}.\n"
        )
    if entry["event"] == "doubt":
        sender = _plain(entry.get("sender"))
        return (
            f"{sender}: more than {_plain(entry.get('most'))} bans in a minute by its lines, noticed by {by}. They ban"
            " only whom an enforcer sees connected, until it is quiet. Are they forged, or is it a botnet? See pinban"
            " status and pinban bans;"
            f" pinban trust {sender} ends the doubt.\n"
        )
    network = _plain(entry.get("network"))
    done = "banned" if entry["event"] == "ban" else "would be banned (the rule only simulates)"
    lines = [f"{network} {done} until {_time(entry.get('until'))}, rule {_plain(entry.get('rule'))}, by {by}."]
    lines += [f"    {line}" for line in _evidence(entry.get("evidence", ""))]
    if entry["event"] == "ban":
        lines.append(f"To let it in again: pinban unban {network}")
    return "\n".join(lines) + "\n"


def _evidence(text: str) -> list[str]:
    try:
        found: Any = json.loads(text or "[]")
    except ValueError:
        return []
    if isinstance(found, dict):
        return [_plain(found["why"])] if found.get("why") else []
    return [
        f"{_time(each.get('at'))}  room {_plain(each.get('alias')) or '(none)'}  through {_plain(each.get('rp'))}"
        f"  request {_plain(each.get('id'))}"
        for each in found
        if isinstance(each, dict)
    ]


def _time(ms: object) -> str:
    try:
        return f"{datetime.fromtimestamp(int(str(ms)) / 1_000, UTC):%Y-%m-%d %H:%M:%S}"
    except (ValueError, OverflowError, OSError):
        return "(unknown)"


def _plain(value: object) -> str:
    """One line of printable text: clients chose a part of it."""
    return printable(value if value is not None else "")[:200]
