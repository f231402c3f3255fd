"""Redis: one server, sentinels or a cluster; TLS; errors with remedies; names of keys. Knows no verb of ours."""

from shared.store.connection import HASTY_S, PATIENT_S, check_redis, connect
from shared.store.keys import Keys
from shared.store.memory import losses, read_memory
from shared.store.sentinel import ASK_EVERY_S
from shared.store.store import Command, Script, Store, Subscription, Word, milliseconds, number, scored, text_of

__all__ = [
    "ASK_EVERY_S",
    "HASTY_S",
    "PATIENT_S",
    "Command",
    "Keys",
    "Script",
    "Store",
    "Subscription",
    "Word",
    "check_redis",
    "connect",
    "losses",
    "milliseconds",
    "number",
    "read_memory",
    "scored",
    "text_of",
]
