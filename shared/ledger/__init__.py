"""The ledger in Redis, as every side sees it: bans, allow-list, history. Each change is one script."""

from shared.ledger.allow import AllowList, Entry, decode_entries, read_allow, unreadable_entries
from shared.ledger.changes import Ledger, NewBan
from shared.ledger.history import History, Row, sentence
from shared.ledger.listing import Standing, banned, standing

__all__ = [
    "AllowList",
    "Entry",
    "History",
    "Ledger",
    "NewBan",
    "Row",
    "Standing",
    "banned",
    "decode_entries",
    "read_allow",
    "sentence",
    "standing",
    "unreadable_entries",
]
