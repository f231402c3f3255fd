"""What the kernel tells of its TCP sockets: whose connection is or was there, and that no forged address gets in."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from enforcer.witness import sockets
from enforcer.witness.peers import client_of
from enforcer.witness.sockets import Sockets
from shared.addresses import NetworkSet
from tests.lab.netns import Namespace, unique_prefix
from tests.lab.process import wait_until

PORT, PORT6, OTHER = 443, 8443, 9000

HERE, THERE = bytes([127, 0, 0, 1]), bytes([127, 0, 0, 9])


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    namespace = Namespace(f"{unique_prefix()}-sockets")
    namespace.create()
    namespace.configure("link set lo up")
    yield namespace
    namespace.remove()


@pytest.fixture
def looking(namespace: Namespace) -> Iterator[Sockets]:
    looking = namespace.call(lambda: Sockets([PORT, PORT6]))
    yield looking
    looking.close()


@pytest.fixture
def servers(namespace: Namespace) -> Iterator[dict[int, socket.socket]]:
    def make() -> dict[int, socket.socket]:
        made = {port: socket.create_server(("127.0.0.1", port), backlog=1_000) for port in (PORT, OTHER)}
        made[PORT6] = socket.create_server(("::", PORT6), family=socket.AF_INET6, dualstack_ipv6=True)
        return made

    made = namespace.call(make)
    yield made
    for server in made.values():
        server.close()


class Pair:
    """Both ends of one connection."""

    def __init__(self, namespace: Namespace, server: socket.socket, source: str, *, to: str = "127.0.0.1") -> None:
        port = server.getsockname()[1]
        self.client = namespace.call(lambda: socket.create_connection((to, port), source_address=(source, 0)))
        self.inside, _ = server.accept()

    def close(self, *, reset: bool = False) -> None:
        if reset:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client.close()
        self.inside.close()


def told(looking: Sockets) -> list[bytes]:
    """The closings that come next, when there are some."""
    found: list[bytes] = []

    def some() -> bool:
        found.extend(looking.closed().clients)
        return bool(found)

    wait_until(some, "the kernel tells of a closing")
    return found


def test_an_open_connection_shows_in_the_dump_and_a_closed_one_was_told_of(
    namespace: Namespace, looking: Sockets, servers: dict[int, socket.socket]
) -> None:
    pair = Pair(namespace, servers[PORT], "127.0.0.9")
    found = looking.open_now()
    assert found.clients == [THERE]
    assert found.listening
    assert looking.closed().clients == []
    pair.close()
    assert told(looking) == [THERE]


@pytest.mark.parametrize("reset", [True, False])
def test_a_short_connection_is_told_of_however_it_ends(
    namespace: Namespace, looking: Sockets, servers: dict[int, socket.socket], reset: bool
) -> None:
    Pair(namespace, servers[PORT], "127.0.0.9").close(reset=reset)
    assert told(looking) == [THERE]


def test_the_connections_of_banned_networks_end_and_no_others(
    namespace: Namespace, looking: Sockets, servers: dict[int, socket.socket]
) -> None:
    guilty, other = (Pair(namespace, servers[PORT], source) for source in ("127.0.0.9", "127.0.0.8"))
    elsewhere = Pair(namespace, servers[OTHER], "127.0.0.9")
    assert looking.cut(NetworkSet(["127.0.0.9", "2001:db8::/48"])) == 1
    with pytest.raises(OSError, match=r"abort|reset"):
        guilty.inside.recv(1)
    assert looking.open_now().clients == [bytes([127, 0, 0, 8])]
    guilty.close()
    for pair in (other, elsewhere):
        pair.client.sendall(b"x")
        assert pair.inside.recv(1) == b"x"
        pair.close()


def test_what_is_over_is_not_ended_again() -> None:
    """Older kernels refuse to end a connection in TIME_WAIT, and it holds nothing."""
    namespace = Namespace(f"{unique_prefix()}-over")
    namespace.create()
    try:
        namespace.configure("link set lo up")
        server = namespace.call(lambda: socket.create_server(("127.0.0.1", PORT)))
        looking = namespace.call(lambda: Sockets([PORT]))
        over, going_on = (Pair(namespace, server, "127.0.0.9") for _ in range(2))
        over.inside.close()  # who closes first keeps it
        over.client.close()
        wait_until(lambda: "TIME-WAIT" in namespace.run(["ss", "-Htan", "sport", f":{PORT}"]).stdout, "it is over")
        assert looking.cut(NetworkSet(["127.0.0.9"])) == 1
        for each in (going_on.inside, going_on.client, server, looking):
            each.close()
    finally:
        namespace.remove()


def test_other_ports_and_our_own_clients_are_nobodys(
    namespace: Namespace, looking: Sockets, servers: dict[int, socket.socket]
) -> None:
    """Each connection of the loopback has its client's socket here too."""
    open_ = Pair(namespace, servers[OTHER], "127.0.0.8")
    Pair(namespace, servers[OTHER], "127.0.0.8").close()
    Pair(namespace, servers[PORT], "127.0.0.9").close()
    assert told(looking) == [THERE]
    assert bytes([127, 0, 0, 8]) not in looking.open_now().clients
    open_.close()


def test_a_client_of_ipv4_is_known_behind_a_socket_for_both_families_and_one_of_ipv6_by_its_64(
    namespace: Namespace, looking: Sockets, servers: dict[int, socket.socket]
) -> None:
    namespace.configure("addr add 2001:db8:1:2::9/64 dev lo nodad")
    pairs = [
        Pair(namespace, servers[PORT6], "127.0.0.9"),
        Pair(namespace, servers[PORT6], "2001:db8:1:2::9", to="2001:db8:1:2::9"),
    ]
    six = client_of(socket.inet_pton(socket.AF_INET6, "2001:db8:1:2::"))
    assert sorted(looking.open_now().clients) == sorted([THERE, six])
    closed: list[bytes] = []
    for pair in pairs:
        pair.close(reset=True)
        closed += told(looking)
    assert sorted(closed) == sorted([THERE, six])


def test_a_forged_syn_is_no_connection(
    namespace: Namespace, looking: Sockets, servers: dict[int, socket.socket]
) -> None:
    """It makes a half-open one, of which neither the dump nor the end tells. Here its RST, the answer of an owner who
    did not send the SYN, is dropped until the half-open one has been looked at.
    """
    nft(namespace, "add table ip t; add chain ip t o { type filter hook output priority 0; }")
    nft(namespace, "add rule ip t o tcp flags & rst == rst drop")
    namespace.call(lambda: send_syn("127.0.0.7", "127.0.0.1", PORT))
    wait_until(lambda: half_open(namespace) == 1, "the kernel holds it half-open")
    assert looking.open_now().clients == []
    nft(namespace, "delete table ip t")
    namespace.call(lambda: send_syn("127.0.0.7", "127.0.0.1", PORT))
    wait_until(lambda: half_open(namespace) == 0, "it is gone")
    Pair(namespace, servers[PORT], "127.0.0.9").close()
    assert told(looking) == [THERE], "and of it nothing was told before"


def test_many_connections_are_told_of_one_by_one(
    namespace: Namespace, looking: Sockets, servers: dict[int, socket.socket]
) -> None:
    pairs = [Pair(namespace, servers[PORT], f"127.0.{n >> 8}.{n & 255}") for n in range(1, 400)]
    assert len(set(looking.open_now().clients)) == 399
    for pair in pairs:
        pair.close(reset=True)
    found: set[bytes] = set()
    while len(found) < 399:
        found.update(told(looking))


def test_an_overflow_is_owned_up_to(
    namespace: Namespace, servers: dict[int, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "BUFFER", 4_096)
    looking = namespace.call(lambda: Sockets([PORT]))
    for n in range(1, 100):
        Pair(namespace, servers[PORT], f"127.0.0.{n}").close(reset=True)
    wait_until(lambda: looking.closed().lost, "it says so")
    looking.close()


def test_where_nothing_listens_it_is_told(namespace: Namespace, looking: Sockets) -> None:
    assert not looking.open_now().listening


def nft(namespace: Namespace, commands: str) -> None:
    namespace.run(["nft", commands])


def half_open(namespace: Namespace) -> int:
    listed = namespace.run(["ss", "-Htn", "state", "syn-recv"]).stdout
    return len(listed.splitlines())


def send_syn(source: str, to: str, port: int) -> None:
    """A SYN that the one whose address it bears never sent, RFC 9293 section 3.1."""
    ends = socket.inet_aton(source) + socket.inet_aton(to)
    head = struct.pack("!HHIIBBHHH", 5_555, port, 1, 0, 5 << 4, 2, 1_000, 0, 0)
    total = sum(struct.unpack("!16H", ends + struct.pack("!HH", socket.IPPROTO_TCP, len(head)) + head))
    total = (total & 0xFFFF) + (total >> 16)
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.bind((source, 0))
        raw.sendto(head[:16] + struct.pack("!H", checksum) + head[18:], (to, 0))
