"""What a process asks of its own kernel: real-time priority, fewer privileges."""

from shared.host.privileges import CAP_NET_ADMIN, CAP_NET_RAW, keep_only
from shared.host.realtime import be_ordinary, be_quick

__all__ = [
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "be_ordinary",
    "be_quick",
    "keep_only",
]
