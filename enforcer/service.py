"""Telling systemd how we are: ready, well, stopping (sd_notify(3)). Silent where nobody listens."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

#: How often the status is told when nobody watches, s.
_STATUS_EVERY_S = 10.0


class Service:
    """The socket that systemd gave us. What it does not hear does not matter to us."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Takes what is for us out of the environment: whatever we start must not speak in our name."""
        self._address = environment.pop("NOTIFY_SOCKET", "")
        watched_us = int(environment.pop("WATCHDOG_USEC", None) or 0)
        environment.pop("WATCHDOG_PID", None)
        #: How often to tell, s: three times within the time after which systemd would start us anew.
        self.every_s = min(watched_us / 3_000_000, _STATUS_EVERY_S) if watched_us else _STATUS_EVERY_S

    def tell(self, status: str, *signs: str) -> None:
        """Tell the status, one line for people, and signs such as READY=1."""
        if not self._address:
            return
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.setblocking(False)
            end.sendto("\n".join((*signs, f"STATUS={status}")).encode(), name)
