"""Network namespaces to put hosts in, and what a test says of them. No assertions."""

from __future__ import annotations

import ctypes
import gc
import itertools
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from enforcer.firewall.iptables.backend import IptablesFirewall
from enforcer.firewall.nftables.backend import NftablesFirewall
from enforcer.firewall.port import Firewall

#: The backends that program a kernel; both take the same settings.
BACKENDS: dict[str, Callable[..., Firewall]] = {"iptables": IptablesFirewall, "nftables": NftablesFirewall}

CLONE_NEWNET = 0x40000000

RP4, CLIENT4, OTHER4 = "198.51.100.1", "198.51.100.7", "198.51.100.8"
RP6, CLIENT6, OTHER6 = "2001:db8:0:1::1", "2001:db8:1:2::7", "2001:db8:1:3::8"

#: What a routed lab's clients speak to: a server behind the reverse proxy.
SERVER4, SERVER6, GATEWAY4, GATEWAY6 = "203.0.113.80", "3fff:80::80", "203.0.113.1", "3fff:80::1"

#: How long a packet that must come may take, and how long to listen for one that must not, s.
COMES_S, SILENCE_S = 30.0, 0.3

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count()


def run(*command: str) -> str:
    """What the command prints; it must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def until(condition: Callable[[], bool], within_s: float = COMES_S) -> bool:
    """Whether it comes true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def descriptors() -> int:
    """How many files this process has open, without those of tests before that only wait to be collected."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def children() -> dict[int, str]:
    """Our child processes, zombies included: pid -> state."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid():
            found[int(stat.parent.name)] = state
    return found


@contextmanager
def namespace(role: str) -> Iterator[str]:
    """A network namespace of its own, with loopback up; yields its name."""
    name = f"pinban-test-{os.getpid()}-{next(_numbers)}-{role}"
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        run("ip", "netns", "del", name)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread lives in the namespace, and so do the sockets and processes it makes."""
    with open("/proc/thread-self/ns/net", "rb") as home, open(f"/run/netns/{name}", "rb") as there:
        _setns(there.fileno())
        try:
            yield
        finally:
            _setns(home.fileno())


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


class EchoServer:
    """Sends back what it gets, on several ports, in a thread. The sockets belong to the namespace it is made in."""

    def __init__(self, ports: tuple[int, ...]) -> None:
        self._selector = selectors.DefaultSelector()
        self._wake, wake = socket.socketpair()
        self.connections: dict[tuple[str, int], socket.socket] = {}  #: by the client's address and port
        self._open = [self._wake, wake]
        self._selector.register(wake, selectors.EVENT_READ, None)
        for port in ports:
            listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
            self._open.append(listener)
            self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._wake.send(b"x")
        self._thread.join()
        self._selector.close()
        for each in self._open:
            each.close()

    def _serve(self) -> None:
        while True:
            for key, _events in self._selector.select():
                if key.data is None:
                    return
                assert isinstance(key.fileobj, socket.socket)
                key.data(key.fileobj)

    def _accept(self, listener: socket.socket) -> None:
        connection, peer = listener.accept()
        self._open.append(connection)
        self._selector.register(connection, selectors.EVENT_READ, self._echo)
        self.connections[peer[0].removeprefix("::ffff:"), peer[1]] = connection

    def _echo(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(4096)
            if data:
                connection.sendall(data)
                return
        except OSError:
            pass
        self._selector.unregister(connection)


@dataclass
class Lab:
    """A reverse proxy and a client host with two addresses per family, joined by a cable."""

    rp: str
    client: str
    server: EchoServer
    open: ExitStack = field(default_factory=ExitStack)
    target4: str = RP4  #: where the server listens
    target6: str = RP6

    def connect(self, source: str, port: int, timeout_s: float = COMES_S) -> socket.socket:
        """A connection from one of the client's addresses to the proxy; TimeoutError if it is not answered."""
        v6 = ":" in source
        with inside(self.client):
            connection = self.open.enter_context(socket.socket(socket.AF_INET6 if v6 else socket.AF_INET))
        connection.settimeout(timeout_s)
        connection.bind((source, 0))
        connection.connect((self.target6 if v6 else self.target4, port))
        return connection

    def reaches(self, source: str, port: int) -> bool:
        """Whether a new connection is answered, listening long enough to tell."""
        try:
            self.connect(source, port, SILENCE_S).close()
        except TimeoutError:
            return False
        return True


def echoes(connection: socket.socket, within_s: float) -> bool:
    """Whether the proxy sends back what we send."""
    connection.settimeout(within_s)
    try:
        connection.sendall(b"ping")
        return connection.recv(4) == b"ping"
    except TimeoutError:
        return False


def plug_in(rp: str, client: str) -> None:
    """A cable between the two, with their addresses."""
    run("ip", "-n", rp, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", client)
    for host, addresses in ((rp, (RP4, RP6)), (client, (CLIENT4, OTHER4, CLIENT6, OTHER6))):
        for address in addresses:
            length, flags = ("/32", ["nodad"]) if ":" in address else ("/24", [])
            run("ip", "-n", host, "address", "add", address + length, "dev", "eth0", *flags)
        run("ip", "-n", host, "link", "set", "eth0", "up")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend that programs a kernel."""
    return str(request.param)


@pytest.fixture
def make(backend: str) -> Iterator[Callable[..., Firewall]]:
    """Makes firewalls of the backend, by their settings; they are closed after the test."""
    with ExitStack() as made:

        def one(**settings: object) -> Firewall:
            firewall = BACKENDS[backend](**settings)
            made.callback(firewall.close)
            return firewall

        yield one


@pytest.fixture
def rp() -> Iterator[str]:
    """The test runs on a host without cables."""
    with namespace("rp") as name, inside(name):
        yield name


@pytest.fixture
def lab() -> Iterator[Lab]:
    """The test runs on the reverse proxy of a lab."""
    with namespace("rp") as rp, namespace("client") as client, inside(rp):
        plug_in(rp, client)
        server = EchoServer((80, 443, 8080))
        lab = Lab(rp, client, server)
        with lab.open:
            lab.open.callback(server.close)
            yield lab


@pytest.fixture
def routed() -> Iterator[Lab]:
    """The test runs on a reverse proxy through which clients reach a server, as they reach a container."""
    with namespace("rp") as rp, namespace("client") as client, namespace("server") as server, inside(rp):
        plug_in(rp, client)
        run("ip", "link", "add", "eth1", "type", "veth", "peer", "name", "eth0", "netns", server)
        for host, link, addresses in ((rp, "eth1", (GATEWAY4, GATEWAY6)), (server, "eth0", (SERVER4, SERVER6))):
            run("ip", "-n", host, "link", "set", link, "up")
            run("ip", "-n", host, "address", "add", f"{addresses[0]}/24", "dev", link)
            run("ip", "-n", host, "address", "add", f"{addresses[1]}/64", "dev", link, "nodad")
        for host, gateways in ((client, (RP4, RP6)), (server, (GATEWAY4, GATEWAY6))):
            for gateway in gateways:
                run("ip", "-n", host, "route", "add", "default", "via", gateway)
        run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        with inside(server):
            echo = EchoServer((80, 443, 8080))
        lab = Lab(rp, client, echo, target4=SERVER4, target6=SERVER6)
        with lab.open:
            lab.open.callback(echo.close)
            yield lab
