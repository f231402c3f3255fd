"""Whether the enforcer's rules cover what the servers with the nodes' API listen on. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pinban.doctor.blocks import Block, Directive, place_of
from pinban.doctor.finding import Finding
from shared.addresses import parse_network, too_wide
from shared.errors import AddressError
from shared.settings import Enforcer

#: Address and port of a listen directive (ngx_parse_url), or ports (since 1.15.10).
_LISTEN = re.compile(r"(?:(?P<host>\[[0-9A-Fa-f:.]+\]|[^:\[\]]+):)?(?P<first>\d{1,5})(?:-(?P<last>\d{1,5}))?", re.ASCII)

#: What nginx listens on where a server says nothing.
_DEFAULT_PORT = 80


@dataclass(frozen=True, slots=True)
class Listener:
    """One listen directive that clients from outside can reach."""

    place: str
    ports: range
    quic: bool


def listening(servers: Iterable[Block], enforcer: Enforcer) -> Iterator[Finding]:
    """Ports and protocols of these servers that a ban does not drop."""
    listeners = [listener for server in servers for listener in _listeners(server)]
    covers_tcp, covers_udp = enforcer.protocol in ("tcp", "all"), enforcer.protocol in ("udp", "all")
    for each in dict.fromkeys(listeners):
        kind = "QUIC (HTTP/3), which is UDP" if each.quic else "TCP"
        if not (covers_udp if each.quic else covers_tcp):
            yield Finding(
                "bad",
                "nginx",
                f"{each.place}: clients reach the nodes' API by {kind}, but enforcer.protocol is {enforcer.protocol},"
                f" so a banned guesser goes on there; {_remedy(quic=each.quic)}",
            )
        missing = [port for port in each.ports if enforcer.ports != "all" and port not in enforcer.ports]
        if missing:
            named = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
            yield Finding(
                "bad",
                "nginx",
                f"{each.place}: clients reach the nodes' API on port {named}, which is not in enforcer.ports, so a"
                " banned guesser goes on there; add it",
            )


def balanced(lines: Sequence[Directive]) -> Iterator[Finding]:
    """One note when clients' addresses come from somebody else's word; what is bad when it is anybody's."""
    for line in lines:
        if line["directive"] == "set_real_ip_from" and _is_anybody(line["args"]):
            yield Finding(
                "bad",
                "nginx",
                f"{place_of(line)}: set_real_ip_from {line['args'][0]} believes everybody: each client chooses in a"
                " header which address is counted and banned; use the addresses of your own load balancers alone",
            )
    for line in lines:
        if line["directive"] == "set_real_ip_from":
            source, what = "a header", "set_real_ip_from"
        elif line["directive"] == "listen" and "proxy_protocol" in line["args"][1:]:
            source, what = "the PROXY protocol", "listen ... proxy_protocol"
        else:
            continue
        yield Finding(
            "note",
            "nginx",
            f"{place_of(line)}: {what}: clients' addresses come from {source}. Trust only your own load balancers, or a"
            " client can choose who is banned. If packets come from the balancer's address, a ban drops nobody here;"
            " make the balancer keep the client's source address",
        )
        return


def _is_anybody(arguments: Sequence[str]) -> bool:
    """Whether a network is too wide to be that of somebody's load balancers."""
    try:
        return bool(arguments) and too_wide(parse_network(arguments[0]))
    except AddressError:  # a name, or unix:
        return False


def _listeners(server: Block) -> Iterator[Listener]:
    lines = server.own("listen")
    if not lines:
        yield Listener(server.place, range(_DEFAULT_PORT, _DEFAULT_PORT + 1), quic=False)
    for line in lines:
        address = line["args"][0] if line["args"] else ""
        ports = _ports(address)
        if ports:
            yield Listener(place_of(line), ports, quic="quic" in line["args"][1:])


def _ports(address: str) -> range | None:
    """The ports of a listen directive; None for what only this host reaches, or nginx would not start with."""
    if address.startswith("unix:"):
        return None
    found = _LISTEN.fullmatch(address)
    if found is None:  # an address alone
        host, first, last = address, _DEFAULT_PORT, _DEFAULT_PORT
    else:
        host, first = found["host"] or "", int(found["first"])
        last = int(found["last"] or first)
    if host.startswith("127.") or host in ("localhost", "[::1]"):
        return None
    return range(first, min(last, 65_535) + 1)


def _remedy(*, quic: bool) -> str:
    if quic:
        return 'set enforcer.protocol = "all" with enforcer.ports = "all", or do without HTTP/3'
    return 'set enforcer.protocol = "tcp", or "all" with enforcer.ports = "all"'


def apis(found: Sequence[Block]) -> list[Block]:
    """The servers that have one of these locations."""
    servers = {id(server.line): server for block in found if (server := block.within("server")) is not None}
    return list(servers.values())
