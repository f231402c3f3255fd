"""What the backends do to packets: a reverse proxy and its clients in namespaces."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest

from enforcer.firewall.port import Firewall
from enforcer.reconcile import Plan
from shared.addresses import Network, counted_network
from tests.netfilter.conftest import (
    CLIENT4,
    CLIENT6,
    COMES_S,
    OTHER4,
    OTHER6,
    RP4,
    RP6,
    SILENCE_S,
    Lab,
    echoes,
    inside,
    run,
)

Make = Callable[..., Firewall]

FAMILIES = pytest.mark.parametrize(("client", "other"), [(CLIENT4, OTHER4), (CLIENT6, OTHER6)], ids=["IPv4", "IPv6"])


@pytest.fixture
def firewall(lab: Lab, make: Make) -> Firewall:
    firewall = make()
    firewall.install()
    return firewall


def ban(firewall: Firewall, address: str, for_ms: int = 300_000) -> Network:
    network = counted_network(address)
    firewall.apply(Plan({network: for_ms}, frozenset()))
    return network


@FAMILIES
def test_a_banned_client_starves_on_our_ports_alone_and_nobody_else_does(
    lab: Lab, firewall: Firewall, client: str, other: str
) -> None:
    established = lab.connect(client, 80)
    assert echoes(established, COMES_S)
    network = ban(firewall, client)
    assert not echoes(established, SILENCE_S)
    assert not lab.reaches(client, 80)
    assert not lab.reaches(client, 443)
    assert echoes(lab.connect(client, 8080), COMES_S)
    assert echoes(lab.connect(other, 80), COMES_S)
    firewall.apply(Plan({}, frozenset({network})))
    established.settimeout(COMES_S)
    assert established.recv(4) == b"ping"  # resent by the client's kernel
    assert echoes(lab.connect(client, 443), COMES_S)


@FAMILIES
def test_an_answer_in_flight_does_not_reach_a_banned_client(
    lab: Lab, firewall: Firewall, client: str, other: str
) -> None:
    banned, bystander = lab.connect(client, 80), lab.connect(other, 80)
    assert echoes(banned, COMES_S)
    assert echoes(bystander, COMES_S)
    ban(firewall, client)
    for connection in (banned, bystander):
        lab.server.connections[connection.getsockname()[:2]].sendall(b"answer")
    bystander.settimeout(COMES_S)
    assert bystander.recv(6) == b"answer"
    banned.settimeout(SILENCE_S)
    with pytest.raises(TimeoutError):
        banned.recv(6)


@FAMILIES
def test_a_ban_that_ends_opens_by_itself(lab: Lab, firewall: Firewall, client: str, other: str) -> None:
    connection = lab.connect(client, 80)
    ban(firewall, client, 2_000)
    assert not echoes(connection, SILENCE_S)
    connection.settimeout(2 * COMES_S)  # the client's kernel waits twice as long each time before it sends again
    assert connection.recv(4) == b"ping"


#: Commands of a host that accepts established connections, first in its own chains, as soon as it can.
ACCEPTS = {
    "iptables": (
        "iptables-legacy -I INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
        "ip6tables-legacy -I INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT",
    ),
    "nftables": (
        "nft add table inet host",
        "nft add chain inet host input { type filter hook input priority -150; policy accept; }",
        "nft insert rule inet host input ct state established accept",
    ),
}


@FAMILIES
def test_a_rule_that_accepts_established_connections_does_not_save_them(
    lab: Lab, make: Make, backend: str, client: str, other: str
) -> None:
    for command in ACCEPTS[backend]:
        run(*command.split())
    firewall = make()
    firewall.install()
    connection = lab.connect(client, 80)
    assert echoes(connection, COMES_S)
    for command in ACCEPTS[backend]:  # once more, which is now before the jump of iptables
        run(*command.split())
    assert any("out of place" in mended for mended in firewall.install()) == (backend == "iptables")
    ban(firewall, client)
    assert not echoes(connection, SILENCE_S)


@pytest.mark.parametrize(
    ("network", "inside_it", "outside"),
    [
        ("198.51.100.0/29", (CLIENT4,), (OTHER4, CLIENT6)),
        ("198.51.100.0/24", (CLIENT4, OTHER4), (CLIENT6,)),
        ("2001:db8:1:2::/64", (CLIENT6,), (OTHER6, CLIENT4)),
        ("2001:db8:1:2::/63", (CLIENT6, OTHER6), (CLIENT4,)),
    ],
)
def test_a_network_is_dropped_with_all_that_is_in_it(
    lab: Lab, firewall: Firewall, network: str, inside_it: tuple[str, ...], outside: tuple[str, ...]
) -> None:
    firewall.apply(Plan({Network(network): 300_000}, frozenset()))
    assert not any(lab.reaches(address, 80) for address in inside_it)
    assert all(echoes(lab.connect(address, 80), COMES_S) for address in outside)


@pytest.mark.parametrize(
    ("narrow", "wide", "client", "neighbour"),
    [
        ("198.51.100.7", "198.51.100.0/24", CLIENT4, OTHER4),
        ("2001:db8:1:2::/64", "2001:db8:1::/48", CLIENT6, OTHER6),
    ],
)
def test_of_two_bans_one_inside_the_other_each_ends_alone(
    lab: Lab, firewall: Firewall, narrow: str, wide: str, client: str, neighbour: str
) -> None:
    both = {counted_network(client), Network(wide)}
    assert Network(narrow) in both
    for first, lifted_first in ((narrow, narrow), (narrow, wide), (wide, narrow), (wide, wide)):
        for network in sorted(both, key=lambda each: each != first):
            firewall.apply(Plan({network: 300_000}, frozenset()))
        assert not lab.reaches(client, 80)
        assert not lab.reaches(neighbour, 80)
        firewall.apply(Plan({}, frozenset({Network(lifted_first)})))
        assert not lab.reaches(client, 80), "the other ban stands"
        assert lab.reaches(neighbour, 80) == (lifted_first == wide)
        firewall.apply(Plan({}, frozenset(both)))
        assert lab.reaches(client, 80)


def test_the_bans_outlive_the_process_that_made_them(lab: Lab, firewall: Firewall) -> None:
    ban(firewall, CLIENT4)
    firewall.close()
    assert not lab.reaches(CLIENT4, 80)
    assert echoes(lab.connect(OTHER4, 80), COMES_S)


def test_after_disarm_a_banned_client_is_served(lab: Lab, firewall: Firewall) -> None:
    ban(firewall, CLIENT4)
    assert not lab.reaches(CLIENT4, 80)
    firewall.disarm()
    assert echoes(lab.connect(CLIENT4, 80), COMES_S)


def test_every_port_and_protocol_can_be_closed(lab: Lab, make: Make) -> None:
    firewall = make(ports="all", protocol="all")
    firewall.install()
    assert list(firewall.install()) == []
    for client, other in ((CLIENT4, OTHER4), (CLIENT6, OTHER6)):
        # both before the ban: a neighbour solicitation from the banned address would go unanswered as well
        banned, bystander = lab.connect(client, 8080), lab.connect(other, 8080)
        ban(firewall, client)
        assert echoes(bystander, COMES_S)
        assert not echoes(banned, SILENCE_S)


@FAMILIES
def test_all_ports_of_one_protocol_can_be_closed(lab: Lab, make: Make, client: str, other: str) -> None:
    firewall = make(ports="all", protocol="tcp")
    firewall.install()
    ban(firewall, client)
    assert not lab.reaches(client, 8080)
    assert echoes(lab.connect(other, 8080), COMES_S)
    family, server = (socket.AF_INET6, RP6) if ":" in client else (socket.AF_INET, RP4)
    with inside(lab.client):
        sender = socket.socket(family, socket.SOCK_DGRAM)
    with socket.socket(family, socket.SOCK_DGRAM) as listener, sender:
        listener.bind((server, 8080))
        listener.settimeout(COMES_S)
        sender.bind((client, 0))
        sender.sendto(b"of another protocol", (server, 8080))
        assert listener.recv(32) == b"of another protocol"


def refusal(lab: Lab, source: str, port: int) -> str:
    """What a new connection meets."""
    try:
        lab.connect(source, port, COMES_S).close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silence"
    return "an answer"


@FAMILIES
@pytest.mark.parametrize("protocol", ["tcp", "all"])
def test_with_reject_a_banned_client_is_refused_at_once_and_gets_no_answer_in_flight(
    lab: Lab, make: Make, client: str, other: str, protocol: str
) -> None:
    firewall = make(action="reject", protocol=protocol, ports=(80, 443) if protocol == "tcp" else "all")
    firewall.install()
    assert list(firewall.install()) == []
    established, waiting = lab.connect(client, 80), lab.connect(client, 443)
    assert echoes(established, COMES_S)
    assert echoes(waiting, COMES_S)
    assert echoes(lab.connect(other, 80), COMES_S)
    ban(firewall, client)
    assert refusal(lab, client, 80) == "refused"
    lab.server.connections[waiting.getsockname()[:2]].sendall(b"answer")
    waiting.settimeout(SILENCE_S)
    with pytest.raises(TimeoutError):
        waiting.recv(6)
    established.settimeout(COMES_S)
    established.sendall(b"ping")
    with pytest.raises(ConnectionResetError):
        established.recv(4)
    assert refusal(lab, other, 80) == "an answer"
    if protocol == "tcp":
        assert refusal(lab, client, 8080) == "an answer"


@FAMILIES
@pytest.mark.parametrize(("protocol", "action"), [("udp", "drop"), ("udp", "reject"), ("all", "reject")])
def test_a_banned_clients_datagram_is_dropped_or_refused(
    lab: Lab, make: Make, client: str, other: str, protocol: str, action: str
) -> None:
    firewall = make(action=action, protocol=protocol, ports=(443,) if protocol == "udp" else "all")
    firewall.install()
    family, server = (socket.AF_INET6, RP6) if ":" in client else (socket.AF_INET, RP4)
    with inside(lab.client):
        sender, neighbour = (socket.socket(family, socket.SOCK_DGRAM) for _ in range(2))
    with socket.socket(family, socket.SOCK_DGRAM) as listener, sender, neighbour:
        listener.bind((server, 443))
        listener.settimeout(COMES_S)
        for source, address in ((sender, client), (neighbour, other)):
            source.bind((address, 0))
            source.connect((server, 443))
            source.settimeout(COMES_S)
            source.send(b"before")
            assert listener.recv(16) == b"before"
        ban(firewall, client)
        sender.settimeout(COMES_S if action == "reject" else SILENCE_S)
        sender.send(b"banned")
        with pytest.raises(ConnectionRefusedError if action == "reject" else TimeoutError):
            sender.recv(16)
        with pytest.raises(PermissionError):  # dropped on its way out
            listener.sendto(b"answer", sender.getsockname())
        neighbour.send(b"after")
        assert listener.recv(16) == b"after"
