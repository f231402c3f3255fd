"""The settings: what there is to set, its defaults and limits, as values. Reading them is shared/settings/load.py.

Each field's description completes the sentence "KEY = VALUE is not ...": it is the remedy in the error and the text
of the table in the README.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from shared.addresses import Network, parse_network
from shared.durations import Milliseconds
from shared.errors import AddressError
from shared.settings.rules import Duration, Rooms, Rule, built_in_rules

_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$"

Name = Annotated[str, Meta(pattern=_NAME, description="a name of at most 32 letters, digits, dots, dashes")]


class Redis(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the ledger and the counters live."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(redis|rediss|unix|sentinel|cluster)://.+",
            description="the server, as redis://HOST:PORT/DB, rediss://HOST:PORT/DB (TLS) or unix:///PATH; sentinels "
            "and their master's name, as sentinel://HOST:PORT,HOST:PORT/NAME/DB; or some nodes of a cluster, as "
            "cluster://HOST:PORT,HOST:PORT",
        ),
    ] = "redis://127.0.0.1:6379/0"
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_.-]{1,32}$",
            description="what the names in Redis begin with, 32 letters at most",
        ),
    ] = "pinban"
    username: Annotated[str, Meta(description="the ACL user's name")] = ""
    password_file: Annotated[str, Meta(description="a file whose first line is the password")] = ""
    sentinel_username: Annotated[str, Meta(description="the ACL user's name at the sentinels")] = ""
    sentinel_password_file: Annotated[
        str, Meta(description="a file whose first line is the password of the sentinels")
    ] = ""
    tls: Annotated[bool, Meta(description="true or false: whether to speak TLS; rediss:// says so too")] = False
    ca_file: Annotated[str, Meta(description="a file of the certificates that the server's is signed by, PEM")] = ""
    cert_file: Annotated[str, Meta(description="a file of our own certificate for TLS, PEM")] = ""
    key_file: Annotated[str, Meta(description="a file of the key to our own certificate, PEM")] = ""


class Receiver(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The process that reads nginx's log."""

    node: Name = "rx1"
    listen: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^(udp:.+:[0-9]{1,5}|unix:/.+)$")], ...],
        Meta(min_length=1, description='a list of datagram sockets: "udp:ADDRESS:PORT" or "unix:/PATH"'),
    ] = ("udp:127.0.0.1:5514",)
    senders: Annotated[
        tuple[str, ...],
        Meta(description="a list of the networks of the RPs: other senders are refused unread"),
    ] = ("127.0.0.0/8", "::1")
    socket_group: Annotated[
        str, Meta(description="the group that may write to unix: sockets, nginx's workers among it")
    ] = "www-data"
    receive_buffer: Annotated[
        int, Meta(ge=4_096, le=1 << 30, description="a number of bytes from 4096 to 1 GiB, for each socket")
    ] = 16 << 20
    http: Annotated[
        str, Meta(pattern=r"^.+:[0-9]{1,5}$", description="ADDRESS:PORT, where /healthz and /readyz answer")
    ] = "127.0.0.1:8514"
    workers: Annotated[int, Meta(ge=1, le=16, description="a number of processes from 1 to 16")] = 2
    wrong_pin_bytes: Annotated[
        tuple[int, ...], Meta(description="a list of body sizes of a 403 that refuses a PIN")
    ] = (45, 46, 56, 57)
    prompt_bytes: Annotated[
        tuple[int, ...],
        Meta(description="a list of body sizes of a 403 that asks for one, for lines without PIN flag"),
    ] = (69, 73, 77, 80, 84, 88, 110, 121, 137, 141, 148, 152)
    doubt_above: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="a number of bans in a minute, up to 100000, above which a sender is doubted; 0 is never",
        ),
    ] = 1_000
    doubt_for: Annotated[
        Duration, Meta(description='a length of time from 1s to 30d, as "5m" or in seconds: how long a sender stays so')
    ] = Milliseconds(300_000)

    def __post_init__(self) -> None:
        if not 1_000 <= self.doubt_for <= 30 * 86_400_000:
            raise ValueError("doubt_for")


class Enforcer(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The agent on a reverse proxy."""

    node: Name = "rp1"
    backend: Annotated[
        Literal["auto", "iptables", "nftables", "dry-run"],
        Meta(description='"auto", "iptables" (iptables-legacy with ipset), "nftables" or "dry-run" (log only)'),
    ] = "auto"
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,13}$",
            description="the chain's name and the sets' beginning, 14 letters",
        ),
    ] = "pinban"
    chains: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,28}$")], ...],
        Meta(min_length=1, description="a list of chains of the filter table; INPUT brings OUTPUT with it"),
    ] = ("INPUT",)
    ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65535)], ...] | Literal["all"],
        Meta(description='a list of ports, or "all"'),
    ] = (80, 443)
    protocol: Annotated[
        Literal["tcp", "udp", "all"],
        Meta(description='"tcp", "udp" or "all" ("all" goes with ports = "all")'),
    ] = "tcp"
    action: Annotated[
        Literal["drop", "reject"],
        Meta(description='"drop", or "reject" (TCP reset or ICMP error: the guesser learns that a firewall is there)'),
    ] = "drop"
    maxelem: Annotated[
        int, Meta(ge=1_024, le=16_777_216, description="the most bans a set holds at first, from 1024")
    ] = 262_144
    maxelem_limit: Annotated[
        int, Meta(ge=1_024, le=16_777_216, description="the most bans a set may grow to hold, from 1024")
    ] = 4_194_304
    probe_url: Annotated[
        str, Meta(description='the page of the host\'s nginx that is asked for probes, on 127.0.0.1; "" is none')
    ] = "http://127.0.0.1:8515/.pinban/probe"
    probe_every: Annotated[Duration, Meta(description='a length of time from 200ms to 10s, as "5s" or in seconds')] = (
        Milliseconds(5_000)
    )

    def __post_init__(self) -> None:
        if not 200 <= self.probe_every <= 10_000:
            raise ValueError("probe_every")


class Mail(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who is told of bans by mail; the receivers send it."""

    to: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+$")], ...],
        Meta(description="a list of mail addresses that are told of bans; none is told when it is empty"),
    ] = ()
    sender: Annotated[
        str, Meta(pattern=r"^[^@\s]+@[^@\s]+$", description="the mail address that such mail comes from")
    ] = "pinban@localhost"
    server: Annotated[str, Meta(pattern=r"^.+:[0-9]{1,5}$", description="HOST:PORT of the mail server")] = (
        "localhost:25"
    )
    tls: Annotated[
        Literal["none", "starttls", "tls"], Meta(description='"none", "starttls" or "tls" (from the first byte)')
    ] = "none"
    username: Annotated[str, Meta(description="the user's name at the mail server")] = ""
    password_file: Annotated[str, Meta(description="a file whose first line is the password")] = ""
    every: Annotated[
        Duration, Meta(description="the least time between two mails, from 30s to 1d; bans of the meantime share one")
    ] = Milliseconds(60_000)

    def __post_init__(self) -> None:
        if not 30_000 <= self.every <= 86_400_000:
            raise ValueError("every")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that can be set."""

    ignoreip: Annotated[
        tuple[str, ...],
        Meta(description="a list of addresses, CIDR networks and DNS names never counted, never dropped"),
    ] = ("127.0.0.0/8", "::1")
    ignoreself: Annotated[bool, Meta(description="true or false: never count or drop the host's own addresses")] = True
    ipv4_prefix: Annotated[
        int, Meta(ge=8, le=32, description="a prefix length from 8 to 32: the part of an IPv4 address that counts")
    ] = 32
    ipv6_prefix: Annotated[
        int,
        Meta(
            ge=32,
            le=128,
            description="a prefix length from 32 to 128: the part of an IPv6 address that counts",
        ),
    ] = 64
    state_dir: Annotated[
        str, Meta(min_length=1, description="a folder that pinban may write to (the embedded store's data)")
    ] = "/var/lib/pinban"
    redis: Redis = field(default_factory=Redis)
    receiver: Receiver = field(default_factory=Receiver)
    enforcer: Enforcer = field(default_factory=Enforcer)
    mail: Mail = field(default_factory=Mail)
    rooms: Rooms = field(default_factory=Rooms)
    rules: dict[str, Rule] = field(default_factory=built_in_rules)  #: by name


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


#: A DNS name (RFC 1123, section 2.1) with a letter in its last label, so that it is no address.
_DNS_NAME = re.compile(
    r"(?=.{1,253}$)([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?"
)


def parse_ignored(text: str) -> Network | None:
    """The network that an entry of ignoreip is, or None when it is a DNS name; AddressError when it is neither."""
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
        raise ValueError(f"{text!r} is no datagram socket")
    return Endpoint("udp", matched[1] or matched[2], int(matched[3]))
