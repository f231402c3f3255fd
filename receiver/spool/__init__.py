"""What a worker took in and has not counted: receive buffer -> slot -> queues. Outlives the worker, knows no Redis."""

from receiver.spool.importance import Importance
from receiver.spool.receive_buffer import sender_address
from receiver.spool.slots import Slot, Spool

__all__ = [
    "Importance",
    "Slot",
    "Spool",
    "sender_address",
]
