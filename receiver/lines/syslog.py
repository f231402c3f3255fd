"""Taking a log line out of its syslog frame. Pure: bytes in, bytes out; knows nothing of what the line says.

nginx writes RFC 3164 with or without a host name (`nohostname`); forwarders write RFC 5424 or drop the priority.
"""

from __future__ import annotations

import re

_PRIORITY = re.compile(rb"^<[0-9]{1,3}>(?:1 )?")

#: `<190>Nov  2 14:12:18 rp1 pinban: `: priority, time with a space-padded day, host, tag (ngx_syslog.c; RFC 3164).
_RFC3164 = re.compile(
    rb"(?:<[0-9]{1,3}>)?[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} "
    rb"(?:[^ \[\]\"{}]{0,254}[^ \[\]\"{}:] )?[A-Za-z0-9_.-]{1,48}(?:\[[0-9]{1,10}\])?: ?"
)

#: `<190>1 2026-11-22T14:12:18.003Z rp1 pinban - - - `, the structured data empty or not (RFC 5424, section 6).
_RFC5424 = re.compile(
    rb"<[0-9]{1,3}>1 [^ ]{1,64} [^ ]{1,255} [^ ]{1,48} [^ ]{1,128} [^ ]{1,32} "
    rb"(?:-|(?:\[(?:[^\]\\]|\\.){0,1024}\])+)(?: (?:\xef\xbb\xbf)?|$)",
    re.DOTALL,
)


def message(datagram: bytes) -> bytes:
    """The line within the frame; a bare line is its own message. Line ends and trailing NULs are cut."""
    line = datagram.rstrip(b"\r\n\0 ")
    frame = _RFC3164.match(datagram) or _RFC5424.match(datagram)
    return line[frame.end() :] if frame else line


def without_priority(datagram: bytes) -> bytes:
    """The message with its time, host and tag, as a syslog daemon would have written it to a file."""
    return _PRIORITY.sub(b"", datagram.rstrip(b"\r\n\0 "), count=1)
