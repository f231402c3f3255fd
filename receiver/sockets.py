"""The datagram sockets: bound once, in the arbiter, and inherited by every worker, so that no queued line is lost.

Binding and measuring only; what arrives is read by receiver/intake.py.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import socket
import stat
import struct
from collections.abc import Sequence
from pathlib import Path

from shared.errors import SettingsError
from shared.settings import Endpoint, Receiver, parse_endpoint

#: Not in Python's socket module (asm-generic/socket.h).
_SO_RCVBUFFORCE, _SO_MEMINFO = 33, 55

#: Index of the drop counter in what SO_MEMINFO returns (linux/sock_diag.h, SK_MEMINFO_DROPS).
_DROPS = 8

_log = logging.getLogger("pinban.receiver")


def open_sockets(settings: Receiver) -> list[socket.socket]:
    """Bind every endpoint of receiver.listen; SettingsError when one cannot be bound."""
    return [_open(parse_endpoint(text), settings) for text in settings.listen]


def kernel_drops(sockets: Sequence[socket.socket]) -> int:
    """Datagrams that the kernel threw away because a buffer was full, since the sockets were bound."""
    return sum(
        struct.unpack_from("=9I", s.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, 36))[_DROPS]
        for s in sockets
        if s.family != socket.AF_UNIX  # there a full buffer makes nginx drop the line, and say so in its error log
    )


def check_free(address: str) -> None:
    """SettingsError when the HTTP address cannot be bound; gunicorn alone would try for five seconds, then end."""
    host, _, port = address.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as error:
            raise SettingsError(f"receiver.http = {address!r}: {_why(error)}") from error
        except OverflowError as error:
            raise SettingsError(f"receiver.http = {address!r}: no such port; choose one from 1 to 65535") from error


def _open(endpoint: Endpoint, settings: Receiver) -> socket.socket:
    try:
        if endpoint.kind == "unix":
            opened = _open_unix(Path(endpoint.host), settings.socket_group)
        else:
            family = socket.AF_INET6 if ":" in endpoint.host else socket.AF_INET
            opened = socket.socket(family, socket.SOCK_DGRAM)
            opened.bind((endpoint.host, endpoint.port))
    except OSError as error:
        raise SettingsError(f"receiver.listen = {str(endpoint)!r}: {_why(error)}") from error
    _enlarge(opened, endpoint, settings.receive_buffer)
    return opened


def _open_unix(path: Path, group: str) -> socket.socket:
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(errno.EEXIST, "a file that is no socket is in the way")
        try:
            opened.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()  # left by a receiver that is gone
        else:
            raise OSError(errno.EADDRINUSE, "in use")
        opened.close()
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    before = os.umask(0o117)
    try:
        opened.bind(str(path))
    finally:
        os.umask(before)
    try:
        os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except (KeyError, PermissionError):
        _log.warning("%s: cannot give the socket to group %r, so nginx may not write to it; "
                     "set receiver.socket_group to a group of both", path, group)  # fmt: skip
    return opened


def _enlarge(opened: socket.socket, endpoint: Endpoint, wanted: int) -> None:
    """Ask for the buffer, with privilege if we have it, and read back what the kernel gave (socket(7): twice that)."""
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
    except PermissionError:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    given = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if given < wanted:
        _log.warning("%s: the kernel gives a buffer of %d bytes instead of %d; set sysctl net.core.rmem_max=%d",
                     endpoint, given, wanted, wanted)  # fmt: skip


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "another process listens there; stop it or choose another"
        case errno.EADDRNOTAVAIL:
            return "this host has no such address; choose one of its own, or 0.0.0.0"
        case errno.EACCES:
            return "this user may not; choose a port from 1024 on, or a folder that it may write to"
        case _:
            return f"cannot listen there ({error.strerror or error})"
