"""The snippet's answer to probes, by real nginx: this host is logged when it asks, and nobody else makes a datagram."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from enforcer.probes import Probes
from shared.probe import Probe, parse_probe_url
from shared.settings.schema import Settings
from tests.lab.clients import guess
from tests.lab.lab import Lab, ReverseProxy
from tests.lab.netns import Namespace
from tests.lab.process import wait_until
from tests.lab.tap import Tap
from tests.lab.wires import CORE

PROBE = Probe("rp1", "0123abcd", 17, 1_795_356_738_348)

PATH = f"/.pinban/probe/{PROBE}"

PORT = 8515

FIELDS = {"v", "id", "t", "ip", "m", "k", "a", "s", "us", "l", "p", "c", "x", "e", "d", "u", "n"}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=1, receiver=False, enforcers=False) as lab:
        yield lab


@pytest.fixture
def rp(lab: Lab) -> ReverseProxy:
    return lab.rps[0]


@pytest.fixture
def tap(lab: Lab) -> Iterator[Tap]:
    with Tap((CORE, 5514), lab.core.namespace) as tap:
        yield tap


def knock(address: str, request: bytes, port: int = 80) -> int:
    """The status that a raw request is answered with, 0 for none; returns when nginx has logged it and hung up."""
    answer = b""
    with socket.create_connection((address, port), 5.0) as client, suppress(ConnectionResetError):
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        while data := client.recv(65536):
            answer += data
    return int(answer[9:12]) if answer.startswith(b"HTTP/1.") else 0


def ask(rp: ReverseProxy, target: str, *, port: int = PORT) -> int:
    """The status that nginx answers the RP's own host with."""
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
    return rp.host.namespace.call(lambda: knock("127.0.0.1", request.encode(), port))


def only_the_guess_is_logged(lab: Lab, tap: Tap, alias: str) -> None:
    """Nothing came before it: what nginx sends, it sends before it lets the client go."""
    answer = lab.attacker.namespace.call(lambda: guess(lab.rps[0].host.outside, "9999", alias))
    assert answer is not None
    assert tap.next().fields["a"] == alias


def test_a_probe_of_this_host_is_one_datagram_of_the_contract(rp: ReverseProxy, tap: Tap) -> None:
    assert ask(rp, PATH) == 204
    datagram = tap.next()
    assert datagram.fields.keys() == FIELDS
    assert (datagram.fields["k"], datagram.fields["a"], datagram.fields["ip"]) == ("probe", str(PROBE), "127.0.0.1")
    assert (datagram.fields["s"], datagram.fields["m"], datagram.fields["p"]) == ("204", "other", "0")


@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/.pinban/probe",
        "/.pinban/probe/",
        "/.pinban/probex/rp1/0123abcd/17/0",
        "/.pinban/probe/" + "9" * 101,
        "/.pinban/probe/rp1%20x/0123abcd/17/0",
        "/.pinban/probe/rp1%22,%22k%22:%22conference/0123abcd/17/0",
        "/.pinban/probe/rp1%0A/0123abcd/17/0",
    ],
)
def test_what_is_no_probe_is_not_logged_even_on_this_host(lab: Lab, rp: ReverseProxy, tap: Tap, target: str) -> None:
    ask(rp, target)
    only_the_guess_is_logged(lab, tap, "nothing.before")


def test_a_probe_at_another_server_of_this_host_is_none(lab: Lab, rp: ReverseProxy, tap: Tap) -> None:
    """A proxy in front of nginx on the same host, for TLS for example, asks from loopback for any client."""
    assert ask(rp, PATH, port=80) == 404
    only_the_guess_is_logged(lab, tap, "other.server")


#: A client outside asks for the probes' page in every way that might choose the server or its name.
OUTSIDE = {
    "plainly": f"GET {PATH} HTTP/1.1\r\nHost: rp\r\n\r\n",
    "by Host": f"GET {PATH} HTTP/1.1\r\nHost: pinban-probe\r\n\r\n",
    "by Host with the port": f"GET {PATH} HTTP/1.1\r\nHost: 127.0.0.1:8515\r\n\r\n",
    "in absolute form": f"GET http://pinban-probe:8515{PATH} HTTP/1.1\r\nHost: pinban-probe\r\n\r\n",
    "without Host": f"GET {PATH} HTTP/1.0\r\n\r\n",
    "without version": f"GET {PATH}\r\n",
    "in the name of the loopback": (
        f"GET {PATH} HTTP/1.1\r\nHost: pinban-probe\r\nX-Forwarded-For: 127.0.0.1\r\nX-Real-IP: 127.0.0.1\r\n\r\n"
    ),
    "by dots": f"GET /api/..{PATH} HTTP/1.1\r\nHost: pinban-probe\r\n\r\n",
    "encoded": f"GET {PATH.replace('probe', 'b%65at')} HTTP/1.1\r\nHost: pinban-probe\r\n\r\n",
    "as a POST with a PIN": f"POST {PATH} HTTP/1.1\r\nHost: pinban-probe\r\npin: 1\r\nContent-Length: 0\r\n\r\n",
}


@pytest.mark.parametrize("how", OUTSIDE)
def test_no_client_outside_can_make_a_probe(lab: Lab, rp: ReverseProxy, tap: Tap, how: str) -> None:
    request = OUTSIDE[how].encode()
    lab.attacker.namespace.call(lambda: knock(rp.host.outside, request))
    only_the_guess_is_logged(lab, tap, "after.outside")


def test_a_room_called_like_a_probe_is_a_room(lab: Lab, rp: ReverseProxy, tap: Tap) -> None:
    answer = lab.attacker.namespace.call(lambda: guess(rp.host.outside, "1", f"x{PATH}"))
    assert answer is not None
    assert (tap.next().fields["k"], answer.status) == ("conference", 404)


def test_the_page_is_not_there_for_the_outside(lab: Lab, rp: ReverseProxy) -> None:
    for client, address in (
        (lab.attacker, rp.host.outside),
        (lab.attacker, rp.host.outside6),
        (lab.core, rp.host.inside),
    ):
        with pytest.raises(ConnectionRefusedError):
            client.namespace.call(partial(knock, address, b"", PORT))


def test_a_stranger_led_to_the_loopback_makes_no_probe(lab: Lab, rp: ReverseProxy, tap: Tap) -> None:
    """Some container hosts forward from outside to 127.0.0.1; the client's address then still shows it."""
    host = rp.host.namespace
    host.run(["sysctl", "-w", "net.ipv4.conf.outside.route_localnet=1"])
    leads = ["PREROUTING", "-p", "tcp", "--dport", str(PORT), "-j", "DNAT", "--to", f"127.0.0.1:{PORT}"]
    host.run(["iptables-legacy", "-t", "nat", "-A", *leads])
    try:
        request = f"GET {PATH} HTTP/1.1\r\nHost: pinban-probe\r\nConnection: close\r\n\r\n".encode()
        assert lab.attacker.namespace.call(lambda: knock(rp.host.outside, request, PORT)) == 204, "it got there"
        only_the_guess_is_logged(lab, tap, "led.here")
    finally:
        host.run(["iptables-legacy", "-t", "nat", "-D", *leads])


def test_each_of_two_receivers_gets_each_probe_also_by_unix_socket(tmp_path: Path) -> None:
    at = tmp_path / "log.sock"
    with (
        Lab(rps=1, receiver=False, enforcers=False, receivers=(f"{CORE}:5514", f"unix:{at}")) as lab,
        Tap((CORE, 5514), lab.core.namespace) as udp,
        Tap(at) as unix,
    ):
        assert ask(lab.rps[0], PATH) == 204
        assert udp.next().fields == unix.next().fields


def is_told(tap: Tap, host: Namespace, address: str) -> bool:
    """Whether the line of a guess comes; one may be lost because the port was closed before."""
    host.call(lambda: guess(address, "9999", "before"))
    with suppress(TimeoutError):
        return tap.next(1.0).fields["a"] == "before"
    return False


def test_probes_that_nobody_listened_for_cost_no_client_a_line(lab: Lab, rp: ReverseProxy) -> None:
    """The receiver's port is closed: the error of a round's first probe costs the second probe, and not a guess."""
    host, address = lab.attacker.namespace, rp.host.outside
    # A host tells one peer of a closed port six times at once, then once a second (icmp(7), icmp_ratelimit).
    lab.core.namespace.call(lambda: Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0"))
    probes = Probes(Settings())
    url = parse_probe_url(Settings().enforcer.probe_url)
    assert url
    for turn in range(5):
        with Tap((CORE, 5514), lab.core.namespace) as tap:
            wait_until(partial(is_told, tap, host, address), "a line comes, and none is under way any more")
        assert rp.host.namespace.call(partial(probes._ask, url)) == ""
        assert probes.sent == 2 * (turn + 1)
        with Tap((CORE, 5514), lab.core.namespace) as tap:
            host.call(lambda: [guess(address, "9999", "after") for _ in range(10)])
            assert [tap.next().fields["a"] for _ in range(10)] == ["after"] * 10
