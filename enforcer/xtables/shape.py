"""A cheap way to see whether another program edited the legacy filter tables. Changes nothing.

The structures are those of linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

#: IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES.
_GET_INFO, _GET_ENTRIES = 64, 65

#: struct ipt_getinfo: the table's name, which hooks it has, where their chains begin and end, number and bytes of the
#: rules.
_INFO = struct.Struct("=32sI5I5III")

#: struct ipt_get_entries before the rules: the table's name and their bytes, and what aligns a counter.
_BEFORE = -(-36 // ctypes.alignment(ctypes.c_uint64)) * ctypes.alignment(ctypes.c_uint64)

#: Of struct ipt_entry by family: where its length (16 bits) and its two counters begin, and how long these are.
_LENGTH, _COUNTERS, _COUNTED = {4: 90, 6: 142}, {4: 96, 6: 152}, 16

#: Rules of more than so many bytes, some 1,500, are not read each second.
_MOST = 1 << 18

#: How often to ask again when the table was changed meanwhile.
_ATTEMPTS = 10

_FAMILIES = {4: (socket.AF_INET, socket.IPPROTO_IP), 6: (socket.AF_INET6, socket.IPPROTO_IPV6)}

_libc = ctypes.CDLL(None, use_errno=True)


def shape_of(family: int) -> bytes:
    """Where the chains of this family's filter table begin, how long they are, and the first rule of each built-in one.

    It changes when a rule is added or removed, and when another rule comes first; not when a later rule, or one of a
    chain that is not built in, is replaced by one of the same size. Of a very long table the rules are left out. b""
    when the kernel does not answer; the caller then takes the table as not edited.
    """
    kind, level = _FAMILIES[family]
    try:
        with socket.socket(kind, socket.SOCK_DGRAM) as asked:
            for _ in range(_ATTEMPTS):
                info = _ask(asked, level, _GET_INFO, b"filter".ljust(_INFO.size, b"\0"))
                _, hooks, *where, _, size = _INFO.unpack(info)
                if size > _MOST:
                    return info
                try:
                    about = struct.pack("=32sI", b"filter", size).ljust(_BEFORE + size, b"\0")
                    rules = _ask(asked, level, _GET_ENTRIES, about)[_BEFORE:]
                except OSError as error:
                    if error.errno != errno.EAGAIN:
                        raise
                else:
                    starts = [start for hook, start in enumerate(where[:5]) if hooks >> hook & 1]
                    return info + b"".join(_without_counters(family, rules, start) for start in starts)
    except OSError:
        pass
    return b""


def _ask(asked: socket.socket, level: int, option: int, about: bytes) -> bytes:
    told, length = ctypes.create_string_buffer(about, len(about)), ctypes.c_uint32(len(about))
    if _libc.getsockopt(asked.fileno(), level, option, told, ctypes.byref(length)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return told.raw


def _without_counters(family: int, rules: bytes, start: int) -> bytes:
    (length,) = struct.unpack_from("=H", rules, start + _LENGTH[family])
    counters = start + _COUNTERS[family]
    return rules[start:counters] + rules[counters + _COUNTED : start + length]
