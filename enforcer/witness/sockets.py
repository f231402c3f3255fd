"""The kernel's TCP sockets by netlink: those that are open (a dump), and each one that is closed (a multicast group).

The numbers are from linux/sock_diag.h and linux/inet_diag.h; `ss -E` shows the same. Only a client that has answered
the kernel's SYN has such a socket, so nobody gets into it with a forged address: half-open connections are other
objects, of which the kernel tells nothing when they go, and which the dump leaves out.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from enforcer.witness.peers import client_of
from shared.addresses import Network, NetworkSet, counted_network
from shared.errors import FirewallError

#: The socket's receive buffer, bytes: it holds about 6,000 closings.
BUFFER = 8 << 20

_SOCK_DIAG, _SOL_NETLINK, _ADD_MEMBERSHIP, _RCVBUFFORCE = 4, 270, 1, 33

#: SKNLGRP_INET_TCP_DESTROY and SKNLGRP_INET6_TCP_DESTROY.
_CLOSINGS = (1, 3)

#: Kinds of messages: SOCK_DIAG_BY_FAMILY, NLMSG_ERROR, NLMSG_DONE; flags NLM_F_REQUEST and NLM_F_DUMP.
_BY_FAMILY, _ERROR, _DONE, _DUMP_REQUEST = 20, 2, 3, 0x301

#: SOCK_DESTROY; flags NLM_F_REQUEST and NLM_F_ACK; struct inet_diag_req_v2 up to the socket's id, and where a message
#: has that id, which is as long in both.
_DESTROY, _ACK_REQUEST, _DESTROY_REQUEST = 21, 0x005, struct.Struct("!BBBBI")
_ID = slice(4, 52)

_TIME_WAIT, _LISTEN = 6, 10

#: Bits of the states to dump: ESTABLISHED, FIN_WAIT1, FIN_WAIT2, TIME_WAIT, CLOSE_WAIT, LAST_ACK, LISTEN, CLOSING.
_STATES = sum(1 << state for state in (1, 4, 5, 6, 8, 9, _LISTEN, 11))

#: struct nlmsghdr: length, kind, flags, sequence, port; struct inet_diag_req_v2; and, of struct inet_diag_msg, family,
#: state, our port, the client's address.
_HEADER, _REQUEST = struct.Struct("=IHHII"), struct.Struct("!BBBBIHH32s12s")
_MESSAGE = struct.Struct("!BBxxHxx16x16s")
_PORT, _CLIENT = slice(_HEADER.size + 4, _HEADER.size + 6), slice(_HEADER.size + 24, _HEADER.size + 40)
_FAMILY_AT = _HEADER.size

_LONGEST = 1 << 16

#: Longest wait for a piece of a dump, s.
_ANSWER_S = 5.0


@dataclass(frozen=True, slots=True)
class Open:
    """What a dump shows."""

    clients: list[bytes]
    listening: bool  #: whether anything accepts connections on the ports, in this network namespace


@dataclass(frozen=True, slots=True)
class Closed:
    """What the kernel told since the last time."""

    clients: list[bytes]
    lost: bool  #: the buffer overflowed: there were more


class Sockets:
    """Looks into the network namespace where it was made, at these local ports; none means all. For one thread.

    Every method raises FirewallError with a remedy.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = tuple(ports) or (0,)
        self._wanted = frozenset(port.to_bytes(2, "big") for port in ports)
        self._sequence = 0
        try:
            self._listener = _opened()
            self._listener.setblocking(False)
            self._asker = _opened()
            self._asker.settimeout(_ANSWER_S)
            self._listener.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, BUFFER)
            for group in _CLOSINGS:
                self._listener.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            self.close()
            raise _refused("listen for sockets that close", error) from error

    def fileno(self) -> int:
        """To be polled: readable when sockets were closed."""
        return self._listener.fileno()

    def close(self) -> None:
        """Close what is open."""
        for name in ("_listener", "_asker"):
            if opened := getattr(self, name, None):
                opened.close()

    def closed(self) -> Closed:
        """The clients of the sockets that were closed since the last call."""
        clients: list[bytes] = []
        lost = False
        try:
            while True:
                try:
                    data = self._listener.recv(512)
                except BlockingIOError:
                    return Closed(clients, lost)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        raise
                    lost = True
                    continue
                if not self._wanted or data[_PORT] in self._wanted:
                    packed = data[_CLIENT]
                    clients.append(packed[:4] if data[_FAMILY_AT] == socket.AF_INET else client_of(packed))
        except OSError as error:
            raise _refused("read which sockets were closed", error) from error

    def open_now(self) -> Open:
        """The clients of the sockets that are open."""
        clients, listening = [], False
        try:
            for port in self._ports:
                for family in (socket.AF_INET, socket.AF_INET6):
                    for state, client, _ in self._dump(family, port):
                        if state == _LISTEN:
                            listening = True
                        else:
                            clients.append(client)
        except OSError as error:
            raise _refused("read which sockets are open", error) from error
        return Open(clients, listening)

    def cut(self, networks: NetworkSet) -> int:
        """End the connections of these networks, with all that their clients have sent and nobody has read yet; how
        many. A kernel without CONFIG_INET_DIAG_DESTROY cannot.
        """
        try:
            found = [
                (family, id_)
                for port in self._ports
                for family in (socket.AF_INET, socket.AF_INET6)
                for state, _, id_ in self._dump(family, port)
                if state not in (_TIME_WAIT, _LISTEN) and networks.overlaps(_client(family, id_))
            ]
        except OSError as error:
            raise _refused("end connections", error) from error
        ended, refused = 0, None
        for family, id_ in found:
            try:
                ended += self._destroy(family, id_)
            except OSError as error:  # older kernels refuse one that has come to TIME_WAIT since: the others must end
                refused = error
        if refused and not ended:
            raise _refused("end connections", refused) from refused
        return ended

    def _destroy(self, family: int, id_: bytes) -> bool:
        """False when the socket is gone already."""
        self._sequence += 1
        request = _DESTROY_REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + id_
        size = _HEADER.size + len(request)
        self._asker.send(_HEADER.pack(size, _DESTROY, _ACK_REQUEST, self._sequence, 0) + request)
        answer, sequence = b"", 0
        while sequence != self._sequence:  # an earlier dump may not have been read to its end
            answer = self._asker.recv(_LONGEST)
            _, _, _, sequence, _ = _HEADER.unpack_from(answer)
        (result,) = struct.unpack_from("=i", answer, _HEADER.size)
        if result and -result != errno.ENOENT:
            raise OSError(-result, os.strerror(-result))
        return not result

    def _dump(self, family: int, port: int) -> Iterator[tuple[int, bytes, bytes]]:
        """State, client and id of each socket."""
        self._sequence += 1
        states = socket.htonl(_STATES)  # in the order of this host, unlike the ports
        request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, states, port, 0, bytes(32), bytes(12))
        size = _HEADER.size + len(request)
        self._asker.send(_HEADER.pack(size, _BY_FAMILY, _DUMP_REQUEST, self._sequence, 0) + request)
        while True:
            data = self._asker.recv(_LONGEST)
            at = 0
            while at + _HEADER.size <= len(data):
                length, kind, _, sequence, _ = _HEADER.unpack_from(data, at)
                if kind in (_DONE, _ERROR) and sequence == self._sequence:
                    (result,) = struct.unpack_from("=i", data, at + _HEADER.size)
                    if result:
                        raise OSError(-result, os.strerror(-result))
                    return
                if kind == _BY_FAMILY and sequence == self._sequence:
                    found, state, _, packed = _MESSAGE.unpack_from(data, at + _HEADER.size)
                    id_ = data[at + _HEADER.size :][_ID]
                    yield state, packed[:4] if found == socket.AF_INET else client_of(packed), id_
                at += max(length + 3 & ~3, _HEADER.size)


def _client(family: int, id_: bytes) -> Network:
    """The client's address in the id of a socket: ports, our address, the client's."""
    packed = id_[20:36]
    return counted_network(socket.inet_ntop(family, packed[:4] if family == socket.AF_INET else packed), 128)


def _opened() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG)
    opened.bind((0, 0))
    return opened


def _refused(what: str, error: OSError) -> FirewallError:
    remedies = {
        errno.EPERM: "run as root or with CAP_NET_ADMIN",
        errno.EACCES: "run as root or with CAP_NET_ADMIN",
        errno.EOPNOTSUPP: "the kernel needs CONFIG_INET_DIAG_DESTROY",
        errno.ENOENT: "load the kernel modules inet_diag and tcp_diag (modprobe tcp_diag)",
        errno.EPROTONOSUPPORT: "load the kernel modules inet_diag and tcp_diag (modprobe tcp_diag)",
        errno.EAFNOSUPPORT: "let the service use AF_NETLINK (RestrictAddressFamilies= of its unit)",
    }
    remedy = remedies.get(error.errno or 0, "look at the host's load and dmesg")
    return FirewallError(f"sock_diag: cannot {what}: {error.strerror or error}; {remedy}")
