"""What only the receiver does in Redis: counters, rooms, doubt, leaks, sizes. Each .lua lies beside its caller."""

from receiver.store.counters import Counters, expired
from receiver.store.doubt import Doubt
from receiver.store.leaks import Leaks, explained
from receiver.store.rooms import Rooms
from receiver.store.sizes import Sizes, read_sizes, uncalibrated, unexplained

__all__ = [
    "Counters",
    "Doubt",
    "Leaks",
    "Rooms",
    "Sizes",
    "expired",
    "explained",
    "read_sizes",
    "uncalibrated",
    "unexplained",
]
