"""What only the receiver does in Redis: counters, rooms, doubt and more. Each .lua lies beside its caller."""

from receiver.store.counters import Counters, expired
from receiver.store.doubt import TRUSTED, Doubt, Weighed
from receiver.store.leaks import Leaks, explained
from receiver.store.rooms import Rooms
from receiver.store.sizes import Sizes, read_sizes, uncalibrated, unexplained
from receiver.store.witnesses import Witnesses

__all__ = [
    "TRUSTED",
    "Counters",
    "Doubt",
    "Leaks",
    "Rooms",
    "Sizes",
    "Weighed",
    "Witnesses",
    "expired",
    "explained",
    "read_sizes",
    "uncalibrated",
    "unexplained",
]
