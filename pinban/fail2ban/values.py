"""fail2ban's times, ports and addresses as pinban writes them, and as TOML. Pure but for /etc/services."""

from __future__ import annotations

import ipaddress
import re
import socket

from shared.addresses import parse_network
from shared.errors import AddressError

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "mo": 2_629_800, "y": 31_557_600}
_UNIT = re.compile(
    r"(?P<s>s(?:ec(?:onds?)?|s)?)|(?P<mo>mon?(?:ths?)?)|(?P<m>m(?:in(?:utes?)?|m)?)|(?P<h>h(?:ou(?:rs?)?|h)?)"
    r"|(?P<d>d(?:ays?|a|d)?)|(?P<w>w(?:ee(?:ks?)?|w)?)|(?P<y>y(?:ea(?:rs?)?|y)?)"
)
_PART = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([a-z]*)\s*\+?", re.ASCII)

#: Not every host has /etc/services.
_PORTS = {"http": 80, "https": 443, "ssh": 22, "ftp": 21, "smtp": 25, "submission": 587, "imap": 143, "imaps": 993}

#: More ports than anybody lists on purpose.
MOST_PORTS = 1_000

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def seconds_of(text: str) -> int | None:
    """The seconds in a time as fail2ban reads it: 600, 10m, 1d 12h, 1h+30min. None for anything else."""
    total, at, text = 0.0, 0, text.strip().lower()
    while at < len(text):
        part = _PART.match(text, at)
        unit = _UNIT.fullmatch(part[2]) if part and part[2] else None
        if part is None or (part[2] and unit is None):
            return None
        total += float(part[1]) * _SECONDS[(unit.lastgroup if unit else None) or "s"]
        at = part.end()
    return round(total) if text and total < 1e10 else None


def duration(seconds: int) -> str:
    """Seconds as a person would write them, exactly: "10m", "90m", "1d"."""
    for unit in ("w", "d", "h", "m"):
        if seconds and seconds % _SECONDS[unit] == 0 and (unit != "w" or seconds == _SECONDS["w"]):
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"


def ports_of(text: str) -> tuple[frozenset[int], str | None]:
    """The ports in fail2ban's list of numbers, names and ranges, and None; or no port and the reason to close all."""
    ports: set[int] = set()
    for part in re.split(r"[\s,]+", text.strip()):
        first, colon, last = part.partition(":" if ":" in part else "-" if part.replace("-", "").isdigit() else ":")
        low, high = _port(first), _port(last) if colon else _port(first)
        if low is None or high is None:
            return frozenset(), f"{part!r} is not a port that this host knows"
        if high - low >= MOST_PORTS:
            return frozenset(), "" if (low, high) in ((0, 65535), (1, 65535)) else f"{part} is a wide range"
        ports |= set(range(max(low, 1), high + 1))
    return (frozenset(ports), None) if ports else (frozenset(), "")


def _port(name: str) -> int | None:
    name = name.strip().lower()
    if name.isascii() and name.isdigit():
        return int(name) if int(name) <= 65_535 else None
    try:
        return _PORTS.get(name) or socket.getservbyname(name)
    except (OSError, UnicodeError):
        return None


def network_of(text: str) -> str | None:
    """An address or network of ignoreip as pinban writes it, without host bits, as in fail2ban; None for a name."""
    try:
        return parse_network(str(ipaddress.ip_network(text.strip("[]"), strict=False)))
    except (ValueError, AddressError):
        return None


def toml_key(name: str) -> str:
    """A key, quoted where TOML needs it."""
    return name if _BARE.fullmatch(name) else _basic(name)


def toml_text(text: str) -> str:
    """A string that people can read: a literal string where that is possible."""
    safe = all(c >= " " and c != "\x7f" for c in text)
    return f"'{text}'" if safe and "\\" in text and "'" not in text else _basic(text)


def toml_lines(lines: list[str]) -> str:
    """Lines as one string; patterns are easiest to read unescaped."""
    text = "\n".join(lines)
    if "'''" in text or any((c < " " and c not in "\t\n") or c == "\x7f" for c in text):
        return _basic(text)
    return f"'''\n{text}\n'''"


def _basic(text: str) -> str:
    escaped = "".join("\\" + c if c in '"\\' else f"\\u{ord(c):04x}" if c < " " or c == "\x7f" else c for c in text)
    return f'"{escaped}"'
