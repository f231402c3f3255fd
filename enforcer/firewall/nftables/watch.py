"""Listens to the kernel for changes that other programs make to our table. Reads no rules and repairs nothing."""

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

#: The pause before messages are read again: after a change by another program, and after any other message, s. So a
#: program that edits the firewall all the time costs little CPU, and asks for one check a second at most.
REST_S, PAUSE_S = 1.0, 0.25

#: The socket's receive buffer, bytes: 8 MiB hold the kernel's messages about 50,000 new bans at once.
BUFFER = 8 << 20

#: How often to check whether the thread has to end, s.
_LOOK_S = 0.5

_log = logging.getLogger("pinban.enforcer")


class NftWatch(threading.Thread):
    """Calls `touched` when another program changed the firewall's table: at once, or a second after the last call.

    Also when the receive buffer overflowed, because one of the lost messages may have been about such a change. It
    cannot tell our own changes of rules from those of other programs; the check after them finds nothing to do.
    """

    def __init__(self, firewall: NftablesFirewall, touched: Callable[[], None]) -> None:
        """Listens from now on, in the network namespace of the caller; FirewallError without permission."""
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
        """Close the socket. Only a watch that never ran needs this; `run` closes it at its end."""
        self._socket.close()

    def run(self) -> None:
        """Listen until told to stop. After an error listen again, and ask for a check: messages may have been lost."""
        while not self._stopping.is_set():
            try:
                self._listen()
            except FirewallError as error:
                self._sparingly.warning(
                    "listen", "cannot listen for changes by other programs: %s; trying again", error
                )
            except Exception:  # noqa: BLE001  one bug must not end the watch
                _log.exception("cannot listen for changes by other programs: a bug in pinban; trying again")
            self._socket.close()
            self._stopping.wait(REST_S)

    def touched_by_others(self) -> bool:
        """Read the messages that have come; whether one of them is about a change of our table by another program."""
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
            return True  # the receive buffer overflowed

    def _listen(self) -> None:
        if self._socket.fileno() < 0:
            self._socket = nft.listener(BUFFER)
            self._touched()  # there were no messages about changes while the socket was closed
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
