"""What only the receiver does in Redis: counters, rooms, doubt. Each .lua lies beside its caller."""

from receiver.store.counters import Counters, expired
from receiver.store.doubt import TRUSTED, Doubt, Weighed
from receiver.store.rooms import Rooms
from receiver.store.witnesses import Witnesses

__all__ = [
    "TRUSTED",
    "Counters",
    "Doubt",
    "Rooms",
    "Weighed",
    "Witnesses",
    "expired",
]
