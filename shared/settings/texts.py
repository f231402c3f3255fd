"""Reads the texts of some settings: sockets to listen on, networks and DNS names to ignore."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from shared.addresses import Network, parse_network
from shared.errors import AddressError


@dataclass(frozen=True, slots=True)
class Parsed:
    """Stands after the type of a setting: the function that must accept its text, or each text of its list."""

    by: Callable[[str], object]  #: raises ValueError for a text that it does not accept


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A datagram socket to listen on."""

    kind: Literal["udp", "unix"]
    host: str  #: address without brackets; the path of a unix socket
    port: int = 0

    def __str__(self) -> str:
        if self.kind == "unix":
            return f"unix:{self.host}"
        return f"udp:[{self.host}]:{self.port}" if ":" in self.host else f"udp:{self.host}:{self.port}"


#: A DNS name (RFC 1123, section 2.1) with a letter in its last label, so that it cannot be an address.
_DNS_NAME = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?"
)


def parse_ignored(text: str) -> Network | None:
    """The network that an entry of ignoreip names, or None if it is a DNS name; AddressError if it is neither."""
    try:
        return parse_network(text)
    except AddressError as error:
        if _DNS_NAME.fullmatch(text):
            return None
        raise AddressError(f"{error}, nor a DNS name") from error


def parse_endpoint(text: str) -> Endpoint:
    """The endpoint that an entry of receiver.listen names; ValueError if it names none."""
    if text.startswith("unix:/"):
        return Endpoint("unix", text[5:])
    matched = re.fullmatch(r"udp:(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):([0-9]{1,5})", text)
    if matched is None or not 0 < int(matched[3]) < 65_536:
        raise ValueError(f"{text!r} is not a datagram socket")
    return Endpoint("udp", matched[1] or matched[2], int(matched[3]))
