"""When a line was written, as the line itself says. Pure: no clock, so no guess at what a line leaves out.

A time is taken from its fixed place only: JSON's own field, the bracket just before the request, the head of an
RFC 5424 frame. A client that writes a date into its user name or User-Agent writes it somewhere else.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

import msgspec

from receiver.lines import syslog

#: `$msec`: seconds with three decimals; eleven digits are the year 5138.
_MSEC = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,9})?", re.ASCII)

#: All of a text line before its first quote, as in receiver/lines/formats.py: the last bracket is nginx's.
_HEAD = re.compile(rb"[^ ]{1,64} - .* \[([^\[\]]{1,64})\] {1,2}", re.DOTALL)

#: What follows the request in each text format.
_NUMBERS = re.compile(rb" [0-9]{3} (?:[0-9]{1,15}|-) ?")

#: `22/Nov/2026:14:12:18 +0000`, nginx's $time_local (ngx_times.c).
_LOCAL = re.compile(rb"([0-9]{2})/([A-Z][a-z]{2})/([0-9]{4}):([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-][0-9]{2})([0-9]{2})")

_MONTHS = {name: i for i, name in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}

#: `<190>1 2026-11-22T14:12:18.003Z `, the head of a frame of RFC 5424, section 6.
_RFC5424 = re.compile(
    rb"<[0-9]{1,3}>1 ([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,6})?"
    rb"(?:Z|([+-][0-9]{2}):([0-9]{2})) "
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _V1(msgspec.Struct):
    """The time in the JSON that nginx/pinban.conf writes."""

    v: int
    t: str = ""


_decode_v1 = msgspec.json.Decoder(_V1).decode


def line_time(datagram: bytes) -> float | None:
    """The time in a syslog message or in a line of a file, in seconds since the epoch. Raises nothing.

    The line's own time goes before that of its frame. None when there is none that can be read, or only the one of
    RFC 3164: that has no year and no zone, and a wrong guess could move a failure into another window.
    """
    line = syslog.message(datagram)
    own = _json_time(line) if line.startswith(b"{") else _text_time(line)
    return own if own is not None else _frame_time(datagram)


@lru_cache(maxsize=1_024)  # a busy log has hundreds of lines with the same second
def local_time(text: bytes) -> float | None:
    """nginx's $time_local in seconds since the epoch, by its zone; None when the text is no such time."""
    found = _LOCAL.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        return None
    day, _, year, hour, minute, second, zone_h, zone_m = found.groups()
    return _seconds((year, b"%d" % _MONTHS[found[2]], day, hour, minute, second), zone_h, zone_m)


def _json_time(line: bytes) -> float | None:
    try:
        try:
            v1 = _decode_v1(line)
        except UnicodeDecodeError:  # see receiver/lines/formats.py: an alias may be no UTF-8
            v1 = _decode_v1(line.decode("utf-8", "replace").encode())
    except (msgspec.DecodeError, RecursionError):
        return None
    return float(v1.t) if v1.v == 1 and _MSEC.fullmatch(v1.t) else None


def _text_time(line: bytes) -> float | None:
    parts = line.split(b'"', 3)
    if len(parts) < 4 or _NUMBERS.fullmatch(parts[2]) is None:
        return None
    head = _HEAD.fullmatch(parts[0])
    return local_time(head[1]) if head else None


def _frame_time(datagram: bytes) -> float | None:
    found = _RFC5424.match(datagram)
    if found is None:
        return None
    whole = _seconds(found.groups()[:6], found[8] or b"+00", found[9] or b"00")
    return whole + float(found[7] or 0) if whole is not None else None


def _seconds(calendar: tuple[bytes, ...], zone_h: bytes, zone_m: bytes) -> float | None:
    """Seconds since the epoch; the zone's hours have its sign."""
    year, month, day, hour, minute, second = map(int, calendar)
    offset = timedelta(hours=int(zone_h), minutes=int(zone_h[:1] + zone_m))
    try:
        return (datetime(year, month, day, hour, minute, second, tzinfo=timezone(offset)) - _EPOCH).total_seconds()
    except (ValueError, OverflowError):  # the 31st of February, 25 o'clock, a zone of 99 hours
        return None
