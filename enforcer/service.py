"""Tells systemd how we are: ready, well, stopping (sd_notify(3)). Does nothing where nobody listens."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

#: How often the status is told when systemd does not watch us, s.
_STATUS_EVERY_S = 10.0


class Service:
    """The socket that systemd gave us. When a message cannot be sent, nothing else happens."""

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        """Takes these variables out of the environment: what we start must not speak in our name."""
        self._address = environment.pop("NOTIFY_SOCKET", "")
        watched_us = int(environment.pop("WATCHDOG_USEC", None) or 0)
        environment.pop("WATCHDOG_PID", None)
        #: How often to tell, s: three times within the time after which systemd would restart us.
        self.every_s = min(watched_us / 3_000_000, _STATUS_EVERY_S) if watched_us else _STATUS_EVERY_S

    def tell(self, status: str, *signs: str) -> None:
        """Tell the status, one line for people, and signs such as READY=1."""
        if not self._address:
            return
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.setblocking(False)
            end.sendto("\n".join((*signs, f"STATUS={status}")).encode(), name)
