"""Every setting there is: its key, type, limits, default and description. A new one is a field of its section below.

    workers: Annotated[int, Meta(ge=1, le=16, description="a number of processes from 1 to 16")] = 2

The type and what comes after it in Annotated decide which values are accepted: Meta limits numbers, texts and lists,
Between limits lengths of time, and Parsed names a function that must accept the text. The description (for a length of
time: the part after its limits) ends the error "receiver.workers = 17 is not ...", and is the meaning in the README's
table, which `python -m tests.unit.project.test_readme` prints. A new setting needs nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from shared.addresses import Network, is_ipv6, parse_network
from shared.durations import Between, Milliseconds, parse_duration
from shared.probe import parse_probe_url
from shared.settings.levels import Level, parse_level
from shared.settings.servers import parse_servers
from shared.settings.texts import Parsed, parse_endpoint, parse_ignored
from shared.settings.windows import LONG, Window

_Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$", description="a name of at most 32 letters, digits, dots, dashes"
    ),
]

_Size = Annotated[int, Meta(ge=0)]

_Patterns = Annotated[str, Meta(max_length=65_536, description="fail2ban's regular expressions, one on each line")]


class Redis(Struct, frozen=True, kw_only=True):
    """The Redis server that holds the ledger and the counters."""

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
            description="at most 32 letters, digits, dots, dashes; all names in Redis begin with it",
        ),
    ] = "pinban"
    username: Annotated[str, Meta(description="the ACL user's name")] = ""
    password_file: Annotated[str, Meta(description="a file whose first line is the password")] = ""
    sentinel_username: Annotated[str, Meta(description="the ACL user's name at the sentinels")] = ""
    sentinel_password_file: Annotated[
        str, Meta(description="a file whose first line is the password of the sentinels")
    ] = ""
    tls: Annotated[bool, Meta(description="true or false: whether to use TLS; a URL with rediss:// does so too")] = (
        False
    )
    ca_file: Annotated[
        str, Meta(description="a PEM file with the CA certificates that signed the server's certificate")
    ] = ""
    cert_file: Annotated[str, Meta(description="a PEM file with our own certificate for TLS")] = ""
    key_file: Annotated[str, Meta(description="a PEM file with the key of our own certificate")] = ""


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
        Meta(description="a list of the RPs' networks; datagrams of other senders are dropped unread"),
    ] = ("127.0.0.0/8", "::1")
    socket_group: Annotated[
        str, Meta(description="the group that may write to unix: sockets; nginx's workers must be in it")
    ] = "www-data"
    receive_buffer: Annotated[
        int, Meta(ge=4_096, le=1 << 30, description="a number of bytes from 4096 to 1 GiB, for each socket")
    ] = 16 << 20
    http: Annotated[
        str, Meta(pattern=r"^.+:[0-9]{1,5}$", description="ADDRESS:PORT, where /healthz and /readyz answer")
    ] = "127.0.0.1:8514"
    workers: Annotated[int, Meta(ge=1, le=16, description="a number of processes from 1 to 16")] = 2
    wrong_pin_bytes: Annotated[
        tuple[_Size, ...], Meta(description="a list of body sizes, in bytes, of a 403 that refuses a PIN")
    ] = (45, 46, 56, 57)
    prompt_bytes: Annotated[
        tuple[_Size, ...],
        Meta(description="a list of body sizes, in bytes, of a 403 that asks for a PIN, for lines without PIN flag"),
    ] = (69, 73, 77, 80, 84, 88, 110, 121, 137, 141, 148, 152)
    refused_otherwise_bytes: Annotated[
        tuple[_Size, ...],
        Meta(
            description="a list of body sizes, in bytes, of a 403 with a PIN that is not about the PIN, for lines that "
            "say that the answer was not compressed"
        ),
    ] = (59, 60, 70, 71)
    refused_otherwise_above: Annotated[
        int,
        Meta(
            ge=64,
            le=1 << 30,
            description="a number of bytes from 64 to 1 GiB; a 403 with a longer body is not about the PIN",
        ),
    ] = 512
    doubt_above: Annotated[
        int,
        Meta(
            ge=0,
            le=100_000,
            description="a number of bans in a minute, up to 100000, above which a sender is doubted; 0 means never",
        ),
    ] = 1_000
    doubt_for: Annotated[Milliseconds, Between("1s", "30d"), Meta(description="how long a sender stays doubted")] = (
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
            description="at most 14 letters, digits, dashes: the chain's name, and how the sets' names begin",
        ),
    ] = "pinban"
    chains: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,28}$")], ...],
        Meta(min_length=1, description="a list of chains of the filter table; INPUT includes OUTPUT"),
    ] = ("INPUT",)
    ports: Annotated[
        tuple[Annotated[int, Meta(ge=1, le=65535)], ...] | Literal["all"],
        Meta(description='a list of ports, or "all"'),
    ] = (80, 443)
    protocol: Annotated[
        Literal["tcp", "udp", "all"],
        Meta(description='"tcp", "udp" or "all" ("all" needs ports = "all")'),
    ] = "tcp"
    action: Annotated[
        Literal["drop", "reject"],
        Meta(description='"drop", or "reject" (TCP reset or ICMP error: the guesser learns that a firewall is there)'),
    ] = "drop"
    maxelem: Annotated[
        int,
        Meta(ge=1_024, le=16_777_216, description="a number from 1024 to 16777216: the most bans in a new set"),
    ] = 262_144
    maxelem_limit: Annotated[
        int,
        Meta(
            ge=1_024,
            le=16_777_216,
            description="a number from 1024 to 16777216: the most bans in a set that has grown",
        ),
    ] = 4_194_304
    probe_url: Annotated[
        str,
        Parsed(parse_probe_url),
        Meta(description='the URL, on 127.0.0.1, of this host\'s nginx that probes are sent to; "" means no probes'),
    ] = "http://127.0.0.1:8515/.pinban/probe"
    probe_every: Annotated[Milliseconds, Between("200ms", "10s")] = parse_duration("5s")


class Mail(Struct, frozen=True, kw_only=True):
    """Mail about bans; the receivers send it."""

    to: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[^@\s]+@[^@\s]+$")], ...],
        Meta(description="a list of mail addresses that get mail about bans; an empty list means no mail"),
    ] = ()
    sender: Annotated[
        str, Meta(pattern=r"^[^@\s]+@[^@\s]+$", description="the mail address that this mail comes from")
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
        Meta(description="the shortest time between two mails; one mail names all bans of that time"),
    ] = parse_duration("1m")


class Rooms(Struct, frozen=True, kw_only=True):
    """When a conference is under attack (hot), and what then changes."""

    failures: Annotated[
        int,
        Meta(ge=0, le=1_000, description="a number of wrong PINs, up to 1000, that make a room hot; 0 means never"),
    ] = 15
    addresses: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="a number of networks (IPv4 /24, IPv6 /48), from 1 to 100000, that these PINs must come from",
        ),
    ] = 10
    window: Annotated[Milliseconds, Between("1s", "30d")] = parse_duration("10m")
    hot_for: Annotated[Milliseconds, Between("1s", "30d")] = parse_duration("10m")
    hot_maxretry: Annotated[
        int,
        Meta(ge=1, le=1_000, description="a number of wrong PINs, from 1 to 1000, that lead to a ban on a hot room"),
    ] = 3
    most: Annotated[
        int, Meta(ge=1, le=1_000_000, description="a number of rooms, from 1 to 1000000, that are watched at a time")
    ] = 10_000
    forgive_on_join: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="a number of wrong PINs, up to 100, that a right PIN takes back; 0 means none",
        ),
    ] = 0


class Rule(Struct, frozen=True, kw_only=True):
    """How many failures in which time lead to a ban, and for how long. The names are fail2ban's where it has one."""

    enabled: Annotated[bool, Meta(description="true or false: whether the rule counts at all")] = True
    simulate: Annotated[bool, Meta(description="true or false: whether bans are only recorded and drop nobody")] = False
    maxretry: Annotated[int, Meta(ge=1, le=1_000, description="a number of failures from 1 to 1000")] = 5
    findtime: Annotated[Milliseconds, Between("1s", "30d")] = parse_duration("5m")
    bantime: Annotated[Milliseconds, Between("2s", "3650d")] = parse_duration("5m")
    levels: Annotated[
        tuple[str, ...],
        Parsed(parse_level),
        Meta(
            max_length=4,
            description="a list of up to 4 wider networks that are counted too, with the failures within findtime that "
            'ban them, like "ipv6/48=40" or "ipv4/24=25"',
        ),
    ] = ("ipv6/56=15", "ipv6/48=40")
    long_maxretry: Annotated[
        int,
        Meta(
            ge=0, le=1_000, description="a number of failures, up to 1000, in long_findtime; 0 means no second window"
        ),
    ] = 0
    long_findtime: Annotated[Milliseconds, Between("1s", "30d")] = parse_duration("1d")
    bantime_increment: Annotated[
        bool, Meta(description="true or false: whether each ban of an address doubles the time of the next")
    ] = False
    bantime_factor: Annotated[
        float, Meta(ge=0.01, le=1_000, description="a number from 0.01 to 1000 that a growing bantime is multiplied by")
    ] = 1.0
    bantime_maxtime: Annotated[Milliseconds, Between("2s", "3650d")] = parse_duration("7d")
    bantime_jitter: Annotated[Milliseconds, Between("0s", "30d")] = parse_duration("0s")
    strikes_kept: Annotated[Milliseconds, Between("0s", "3650d")] = parse_duration("7d")
    failregex: _Patterns = ""
    ignoreregex: _Patterns = ""
    prefregex: _Patterns = ""

    def windows(self, name: str) -> Iterator[Window]:
        """The windows in which a client's failure under the rule of this name counts."""
        yield Window(name, self.maxretry, int(self.findtime))
        if self.long_maxretry:
            yield Window(f"{name}{LONG}", self.long_maxretry, int(self.long_findtime))

    def wider(self, *, ipv6: bool) -> Sequence[Level]:
        """The levels of one family, the widest network last. No limit is below maxretry, whatever is set."""
        levels = (parse_level(text) for text in self.levels)
        return [
            Level(ipv6, level.length, max(level.maxretry, self.maxretry))
            for level in sorted(levels, key=lambda level: -level.length)
            if level.ipv6 is ipv6
        ]

    def level_of(self, network: Network) -> Level | None:
        """The level of a network; None when it is that of one client."""
        length = network.partition("/")[2]
        return next((each for each in self.wider(ipv6=is_ipv6(network)) if str(each.length) == length), None)


#: The built-in rules, by name.
BUILT_IN: Mapping[str, Rule] = {
    "pin": Rule(),
    "prompt": Rule(maxretry=60, simulate=True, levels=("ipv6/56=240", "ipv6/48=600")),
    "scan": Rule(
        maxretry=10,
        findtime=parse_duration("10m"),
        bantime=parse_duration("10m"),
        levels=("ipv6/56=40", "ipv6/48=100"),
    ),
    "registration": Rule(),
}


class Settings(Struct, frozen=True, kw_only=True):
    """All settings."""

    ignoreip: Annotated[
        tuple[str, ...],
        Parsed(parse_ignored),
        Meta(description="a list of addresses, CIDR networks and DNS names that are never counted or dropped"),
    ] = ("127.0.0.0/8", "::1")
    ignoreself: Annotated[bool, Meta(description="true or false: whether the host's own addresses are exempt too")] = (
        True
    )
    ipv4_prefix: Annotated[
        int,
        Meta(
            ge=8, le=32, description="a prefix length from 8 to 32: IPv4 clients are counted as networks of this length"
        ),
    ] = 32
    ipv6_prefix: Annotated[
        int,
        Meta(
            ge=32,
            le=128,
            description="a prefix length from 32 to 128: IPv6 clients are counted as networks of this length",
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
