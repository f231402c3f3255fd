"""Listening to the kernel for changes that others make to our table. Looks at nothing else and mends nothing."""

from __future__ import annotations

import errno
import logging
import select
import socket
import threading
from collections.abc import Callable

from enforcer.firewall import netlink as nl
from enforcer.firewall.nftables import kernel as nft
from enforcer.firewall.nftables.backend import NftablesFirewall
from shared.errors import FirewallError
from shared.logs import Sparingly

#: After a change by others we are deaf for so long, and after any other for so long, s: whoever changes how much, we
#: hardly work, and a check of ours is asked for once a second at most.
REST_S, PAUSE_S = 1.0, 0.25

#: What waits for us, bytes: 8 MiB hold what 50,000 new bans at once make the kernel say.
BUFFER = 8 << 20

#: How often to look whether to end, s.
_LOOK_S = 0.5

_log = logging.getLogger("pinban.enforcer")


class NftWatch(threading.Thread):
    """Calls `touched` at once, or a second after the last time, when somebody else changed the firewall's table.

    Also when more was said than could be kept: a change of others may have been among it. Changes of rules that we
    make ourselves are not told from those of others; a check after them finds nothing to do.
    """

    def __init__(self, firewall: NftablesFirewall, touched: Callable[[], None]) -> None:
        """Listens from now on, in the network namespace of the caller; FirewallError when that is not allowed."""
        super().__init__(name="nft-watch", daemon=True)
        self._firewall = firewall
        self._table = firewall.table.encode() + b"\0"
        self._touched = touched
        self._stopping = threading.Event()
        self._sparingly = Sparingly(_log, every_s=10.0)
        self._socket = nft.listener(BUFFER)

    def stop(self) -> None:
        """End the loop; the thread ends within a second."""
        self._stopping.set()

    def close(self) -> None:
        """Let go of the socket; `run` does it by itself."""
        self._socket.close()

    def run(self) -> None:
        """Listen until told to stop; after an error listen again, and have made good what was not heard."""
        while not self._stopping.is_set():
            try:
                self._listen()
            except FirewallError as error:
                self._sparingly.warning("listen", "does not hear of changes by others: %s; trying again", error)
            except Exception:  # noqa: BLE001  one bug must not end the watch
                _log.exception("does not hear of changes by others after an error of ours; trying again")
            self._socket.close()
            self._stopping.wait(REST_S)

    def touched_by_others(self) -> bool:
        """Whether one of the messages that have come by now is about a change of others to our table."""
        found = False
        try:
            while True:
                data = self._socket.recv(1 << 16, socket.MSG_DONTWAIT)
                found = found or any(self._is_foreign(*message) for message in nl.messages(data))
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return True  # the kernel had more to say than fitted

    def _listen(self) -> None:
        if self._socket.fileno() < 0:
            self._socket = nft.listener(BUFFER)
            self._touched()  # of what others changed meanwhile we did not hear
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while not self._stopping.is_set():
            if poll.poll(_LOOK_S * 1000):
                foreign = self.touched_by_others()
                if foreign:
                    self._touched()
                self._stopping.wait(REST_S if foreign else PAUSE_S)

    def _is_foreign(self, kind: int, _flags: int, port: int, rest: bytes) -> bool:
        if kind == nft.SUBSYSTEM << 8 | nft.NEW_GENERATION or port == self._firewall.port:
            return False
        return rest[:1] == bytes([nft.INET]) and nl.attributes(rest[4:]).get(nft.TABLE) == self._table
