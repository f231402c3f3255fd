"""What a worker took in and has not counted: receive buffer -> slot -> queue. Outlives the worker, knows no Redis."""

from receiver.spool.receive_buffer import sender_address
from receiver.spool.slots import Slot, Spool

__all__ = [
    "Slot",
    "Spool",
    "sender_address",
]
