"""The connection to Redis: one server, sentinels or a cluster; TLS; the names of all keys. Knows no verb of ours."""

from shared.store.connection import HASTY_S, PATIENT_S, connect, lua, now_ms, translated, understood
from shared.store.keys import Keys
from shared.store.memory import losses, read_memory
from shared.store.scripts import Script
from shared.store.sentinel import ASK_EVERY_S, left_behind
from shared.store.tls import check_secrets

__all__ = [
    "ASK_EVERY_S",
    "HASTY_S",
    "PATIENT_S",
    "Keys",
    "Script",
    "check_secrets",
    "connect",
    "left_behind",
    "losses",
    "lua",
    "now_ms",
    "read_memory",
    "translated",
    "understood",
]
