"""Every setting there is: its key, type, limits, default and description. A new one is a field of its section below.

    workers: Annotated[int, Meta(ge=1, le=16, description="a number of processes from 1 to 16")] = 2

The type and what stands beside it in Annotated decide what is accepted: Meta limits numbers, texts and lists, Between
limits lengths of time, and Parsed names a function that must understand the text. The description (for a length of
time: what comes after its limits) is for people: it ends the sentence "receiver.workers = 17 is not ...", and it is the
meaning in the README's table, which `python -m tests.unit.project.test_readme` prints. Nothing else has to know of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from shared.addresses import parse_network
from shared.durations import Between, Milliseconds, parse_duration
from shared.probe import parse_probe_url
from shared.settings.servers import parse_servers
from shared.settings.texts import Parsed, parse_endpoint, parse_ignored
from shared.settings.windows import LONG, Window

_Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$", description="a name of at most 32 letters, digits, dots, dashes"
    ),
]

_Patterns = Annotated[str, Meta(max_length=65_536, description="regular expressions of fail2ban, one a line")]


class Redis(Struct, frozen=True, kw_only=True):
    """Where the ledger and the counters live."""

    url: Annotated[
        str,
        Parsed(parse_servers),
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


class Receiver(Struct, frozen=True, kw_only=True):
    """The process that reads nginx's log."""

    node: _Name = "rx1"
    listen: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^(udp:.+:[0-9]{1,5}|unix:/.+)$")], ...],
        Parsed(parse_endpoint),
        Meta(min_length=1, description='a list of datagram sockets: "udp:ADDRESS:PORT" or "unix:/PATH"'),
    ] = ("udp:127.0.0.1:5514",)
    senders: Annotated[
        tuple[str, ...],
        Parsed(parse_network),
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
    doubt_for: Annotated[Milliseconds, Between("1s", "30d"), Meta(description="how long a sender stays so")] = (
        parse_duration("5m")
    )


class Enforcer(Struct, frozen=True, kw_only=True):
    """The agent on a reverse proxy."""

    node: _Name = "rp1"
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
        str,
        Parsed(parse_probe_url),
        Meta(description='the page of the host\'s nginx that is asked for probes, on 127.0.0.1; "" is none'),
    ] = "http://127.0.0.1:8515/.pinban/probe"
    probe_every: Annotated[Milliseconds, Between("200ms", "10s")] = parse_duration("5s")


class Mail(Struct, frozen=True, kw_only=True):
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
        Milliseconds,
        Between("30s", "1d"),
        Meta(description="the least between two mails; bans of the meantime share one"),
    ] = parse_duration("1m")


class Rooms(Struct, frozen=True, kw_only=True):
    """When a conference counts as attacked, and what then happens."""

    failures: Annotated[
        int,
        Meta(ge=0, le=1_000, description="a number of wrong PINs that make a room hot, up to 1000; 0 is never"),
    ] = 15
    addresses: Annotated[
        int, Meta(ge=1, le=100_000, description="a number of distinct addresses they must come from, from 1 to 100000")
    ] = 10
    window: Annotated[Milliseconds, Between("1s", "30d")] = parse_duration("10m")
    hot_for: Annotated[Milliseconds, Between("1s", "30d")] = parse_duration("10m")
    hot_maxretry: Annotated[
        int, Meta(ge=1, le=1_000, description="a number of wrong PINs on a hot room that are a ban, from 1 to 1000")
    ] = 2
    most: Annotated[
        int, Meta(ge=1, le=1_000_000, description="a number of rooms watched at a time, from 1 to 1000000")
    ] = 10_000
    forgive_on_join: Annotated[
        int,
        Meta(ge=0, le=100, description="a number of wrong PINs that a right one on the room takes back; 0 is none"),
    ] = 0


class Rule(Struct, frozen=True, kw_only=True):
    """How many failures in which time are a ban, and for how long. The words are fail2ban's where it has them."""

    enabled: Annotated[bool, Meta(description="true or false: whether the rule counts at all")] = True
    simulate: Annotated[bool, Meta(description="true or false: whether everything happens but the ban")] = False
    maxretry: Annotated[int, Meta(ge=1, le=1_000, description="a number of failures from 1 to 1000")] = 5
    findtime: Annotated[Milliseconds, Between("1s", "30d")] = parse_duration("5m")
    bantime: Annotated[Milliseconds, Between("2s", "3650d")] = parse_duration("5m")
    long_maxretry: Annotated[
        int, Meta(ge=0, le=1_000, description="a number of failures up to 1000 in long_findtime; 0 is no second window")
    ] = 0
    long_findtime: Annotated[Milliseconds, Between("1s", "30d")] = parse_duration("1d")
    bantime_increment: Annotated[
        bool, Meta(description="true or false: whether each ban of an address doubles the time of the next")
    ] = False
    bantime_factor: Annotated[
        float, Meta(ge=0.01, le=1_000, description="a number from 0.01 to 1000 that growing bans are multiplied by")
    ] = 1.0
    bantime_maxtime: Annotated[Milliseconds, Between("2s", "3650d")] = parse_duration("7d")
    bantime_jitter: Annotated[Milliseconds, Between("0s", "30d")] = parse_duration("0s")
    strikes_kept: Annotated[Milliseconds, Between("0s", "3650d")] = parse_duration("7d")
    failregex: _Patterns = ""
    ignoreregex: _Patterns = ""
    prefregex: _Patterns = ""

    def windows(self, name: str) -> Iterator[Window]:
        """The windows that a failure under the rule of this name is counted in."""
        yield Window(name, self.maxretry, int(self.findtime))
        if self.long_maxretry:
            yield Window(f"{name}{LONG}", self.long_maxretry, int(self.long_findtime))


#: The rules that are always there.
BUILT_IN: Mapping[str, Rule] = {
    "pin": Rule(),
    "prompt": Rule(maxretry=60, simulate=True),
    "scan": Rule(maxretry=10, findtime=parse_duration("10m"), bantime=parse_duration("10m")),
    "registration": Rule(),
}


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set."""

    ignoreip: Annotated[
        tuple[str, ...],
        Parsed(parse_ignored),
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
    rules: dict[str, Rule] = field(default_factory=lambda: dict(BUILT_IN))  #: by name
