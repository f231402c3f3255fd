"""A real reverse proxy whose nginx is published by Docker: compose.rp.yaml on the host's network, tried with packets.

The host is the network namespace of dockerd, of two kinds: with iptables on nftables, as Debian has it, and with the
legacy iptables. Clients live beyond a veth pair. Published is port 8443, on which nginx listens as 80.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from tests.docker.engine import Engine, enter_empty_network
from tests.docker.watch import namespace_of, run_in
from tests.lab.clients import PIN, pin_header, token_target
from tests.lab.http1 import Connection
from tests.lab.process import ROOT, LabError, wait_until

#: The network of the published nginx; its gateway is the host.
EDGE, GATEWAY, NODE = "10.213.90.0/24", "10.213.90.1", "10.213.90.2"

HOST, GUESSER, BYSTANDER = "198.51.100.1", "198.51.100.2", "198.51.100.3"
HOST6, GUESSER6 = "2001:db8:77::1", "2001:db8:77::2"

PORT = 8443

SETTINGS = """\
[redis]
url = "redis://127.0.0.1:6379/0"
[enforcer]
backend = "{backend}"
chains = ["{chain}"]
ports = [80]
"""


@dataclass(frozen=True, slots=True)
class Edge:
    """A host with a published nginx, and the process whose namespace is the clients'."""

    engine: Engine
    clients: int

    def arm(self, backend: str, chain: str) -> None:
        """Have the enforcer of compose.rp.yaml guard this chain, in place of any other."""
        (self.engine.directory / "rp.toml").write_text(SETTINGS.format(backend=backend, chain=chain))
        self.compose("up", "-d", "--no-build", "--force-recreate", "-t", "3")

    def compose(self, *words: str) -> None:
        at = self.engine.directory
        environment = {
            "PINBAN_NODE": "rp1",
            "PINBAN_SETTINGS": f"{at}/rp.toml",
            "PINBAN_PASSWORD_FILE": f"{at}/password",
        }
        argv = [*self.engine.compose, "-p", "edge", "-f", "compose.rp.yaml", *words]
        self.engine.run(argv, environment=environment)

    def enforcer(self) -> str:
        return self.engine.container("edge", "enforcer")

    def log(self) -> str:
        said = self.engine.run(["docker", "logs", self.enforcer()])
        return said.stdout + said.stderr

    def await_armed(self) -> None:
        """Until the enforcer is healthy, that is: armed, and at one with the ledger."""
        try:
            wait_until(lambda: is_healthy(self.engine, self.enforcer()), "the enforcer is healthy", 30.0)
        except LabError as error:
            raise LabError(f"{error}\n{self.log()}") from error

    def in_kernel(self) -> str:
        """Every set and rule of either backend."""
        asked = (["ipset", "save"], ["nft", "list", "tables"], ["nft", "list", "table", "inet", "pinban"])
        return "".join(subprocess.run(a, capture_output=True, text=True, check=False).stdout for a in asked)

    def pinban(self, *words: str) -> str:
        return self.engine.docker(
            "run", "--rm", "--network", "host", "--entrypoint", "pinban", "pinban/receiver", *words
        )

    def ask(self, pin: str, source: str, host: str = HOST) -> int | None:
        """What a client gets for a PIN; None is no answer."""

        def ask() -> int | None:
            try:
                with Connection(host, PORT, source=source, timeout=1.0) as connection:
                    answer = connection.ask("POST", token_target(), pin_header(pin))
            except OSError:
                return None
            return answer.status if answer else None

        return namespace_of(self.clients).call(ask)

    def keep_open(self, source: str) -> Connection:
        """A connection of that client that has got an answer already."""
        connection = namespace_of(self.clients).call(lambda: Connection(HOST, PORT, source=source, timeout=1.0))
        assert connection.ask("POST", token_target(), pin_header(PIN)) is not None
        return connection


@pytest.fixture(scope="module", params=["nft", "legacy"])
def edge(engine: Engine, request: pytest.FixtureRequest) -> Iterator[Edge]:
    """A new host; `legacy` has iptables-legacy for its iptables."""
    engine.stop()
    enter_empty_network()
    path = ""
    if request.param == "legacy":
        links = Path(tempfile.mkdtemp(dir=engine.directory))
        for name in ("iptables", "ip6tables"):
            (links / name).symlink_to(str(shutil.which(f"{name}-legacy", path="/usr/sbin:/sbin")))
        path = str(links)
    engine.start(path=path)
    clients = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    try:
        wait_until(lambda: Path(f"/proc/{clients.pid}/comm").read_text() == "sleep\n", "the clients' host is there")
        lay_wire(clients.pid)
        start_site(engine)
        Path("/run/xtables.lock").touch()
        yield Edge(engine, clients.pid)
    finally:
        clients.kill()
        clients.wait()
        names = engine.docker("ps", "-aq").split()
        if names:
            engine.docker("rm", "-f", "-v", *names)
        engine.docker("network", "rm", "edge")


def lay_wire(clients: int) -> None:
    """The outside: two clients, one of them with IPv6 too."""
    for words in (
        f"link add outside type veth peer name outside netns {clients}",
        f"address add {HOST}/24 dev outside",
        f"address add {HOST6}/64 dev outside nodad",
        "link set outside up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    for words in (
        f"address add {GUESSER}/24 dev outside",
        f"address add {BYSTANDER}/24 dev outside",
        f"address add {GUESSER6}/64 dev outside nodad",
        "link set outside up",
    ):
        run_in(clients, "ip", *words.split())


def start_site(engine: Engine) -> None:
    """The published nginx and its node; Redis and a receiver, who are elsewhere as far as these are concerned."""
    password = engine.directory / "password"
    password.write_text("correct-horse\n")
    password.chmod(0o600)
    users = (ROOT / "docker" / "users.acl").read_text().splitlines()
    rights = next(line for line in users if line.startswith("user enforcer-rp1 "))
    acl = engine.directory / "users.acl"
    acl.write_text(f"user default on nopass ~* &* +@all\n{rights} >correct-horse\n")
    detached = ("run", "-d", "--network")
    engine.docker("network", "create", "--subnet", EDGE, "edge")
    engine.docker(
        *detached, "host", "--name", "redis", "-v", f"{acl}:/acl:ro", "--entrypoint", "redis-server", "pinban/redis",
        "--bind", "127.0.0.1", "--save", "", "--aclfile", "/acl",
    )  # fmt: skip
    engine.docker(
        *detached, "host", "--name", "receiver", "-e", f"PINBAN_RECEIVER_LISTEN=udp:{GATEWAY}:5514",
        "-e", f"PINBAN_RECEIVER_SENDERS={EDGE}", "-e", "PINBAN_IGNORESELF=false",
        "-e", "PINBAN_RECEIVER_RECEIVE_BUFFER=212992", "pinban/receiver",
    )  # fmt: skip
    engine.docker(
        *detached, "edge", "--name", "node", "--ip", NODE, "pinban/stand-in",
        "tests.lab.node", "--listen", "0.0.0.0:8080", "--pin", "meet.alice=1234",
    )  # fmt: skip
    engine.docker(
        *detached, "edge", "--name", "nginx", "-p", f"{PORT}:80", "-e", f"PINBAN_RECEIVER={GATEWAY}:5514",
        "-e", f"CONFERENCE_NODE={NODE}:8080", "--tmpfs", "/run/nginx:uid=33", "pinban/nginx",
    )  # fmt: skip
    for name in ("receiver", "nginx"):
        wait_until(partial(is_healthy, engine, name), f"{name} is healthy", 60.0)


def is_healthy(engine: Engine, container: str) -> bool:
    return engine.docker("inspect", "-f", "{{.State.Health.Status}}", container) == "healthy"


#: What guards a published port, for each kind of host: backend and chain.
GUARDING = {
    "nft": (("auto", "DOCKER-USER"), ("nftables", "FORWARD"), ("iptables", "FORWARD")),
    "legacy": (("auto", "DOCKER-USER"), ("iptables", "FORWARD"), ("nftables", "DOCKER-USER")),
}


def kind_of(request: pytest.FixtureRequest) -> str:
    return str(request.node.callspec.params["edge"])


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_guesser_is_dropped_on_a_published_port_with_the_connections_it_has(
    edge: Edge, request: pytest.FixtureRequest, which: int
) -> None:
    backend, chain = GUARDING[kind_of(request)][which]
    print(f" {backend} {chain}", end=" ")
    edge.arm(backend, chain)
    edge.await_armed()
    edge.pinban("unban", GUESSER)
    wait_until(lambda: edge.ask(PIN, GUESSER) == 200, "the guesser is let in again", 5.0)
    kept, other = edge.keep_open(GUESSER), edge.keep_open(BYSTANDER)
    assert [edge.ask(f"{n:06}", GUESSER) for n in range(5)] == [403] * 5
    wait_until(lambda: GUESSER in edge.in_kernel(), "it is banned", 5.0)
    assert kept.ask("POST", token_target(), pin_header(PIN)) is None
    assert edge.ask(PIN, GUESSER) is None
    assert other.ask("POST", token_target(), pin_header(PIN)) is not None
    assert edge.ask(PIN, BYSTANDER) == 200
    kept.close()
    other.close()


def test_input_is_not_where_the_packets_to_a_published_port_pass(edge: Edge) -> None:
    edge.arm("auto", "INPUT")
    edge.await_armed()
    assert GUESSER in edge.in_kernel()
    assert edge.ask(PIN, GUESSER) == 200


def test_the_backend_iptables_does_not_see_a_docker_user_chain_of_nftables(
    edge: Edge, request: pytest.FixtureRequest
) -> None:
    edge.arm("iptables", "DOCKER-USER")
    if kind_of(request) == "legacy":
        edge.await_armed()
    else:
        wait_until(lambda: "DOCKER-USER does not exist" in edge.log(), "the enforcer logs what is wrong", 20.0)


def test_ipv6_reaches_an_ipv4_container_by_way_of_a_proxy_that_hides_the_client(edge: Edge) -> None:
    """So publish on IPv4 only: here every client over IPv6 has the address of the host."""
    edge.arm("auto", "DOCKER-USER")
    edge.await_armed()
    edge.pinban("unban", GATEWAY)
    assert [edge.ask(f"{n:06}", GUESSER6, HOST6) for n in range(5)] == [403] * 5
    wait_until(lambda: GATEWAY in edge.pinban("bans"), "the host itself is banned in the ledger", 10.0)
    assert GATEWAY not in edge.in_kernel()
    assert edge.ask(PIN, GUESSER6, HOST6) == 200
