"""What cannot start says why in one line, with the remedy, and ends with a code that is not 0."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.netns import Namespace, unique_prefix
from tests.lab.views import program

#: Root without any of its rights: another user might not even be able to read the checkout.
POWERLESS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


@pytest.fixture(scope="module")
def host() -> Iterator[Namespace]:
    namespace = Namespace(f"{unique_prefix()}-host")
    namespace.create()
    yield namespace
    namespace.remove()


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user can read."""
    path = Path(tempfile.mkdtemp(prefix="pinban-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def refusal(host: Namespace, *command: str) -> str:
    """The one line that a command which ends in failure writes."""
    done = host.run(command, check=False)
    assert done.returncode > 0
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    return lines[0]


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ("[receiver]\nworkrs = 3", ["receiver.workrs", "did you mean receiver.workers"]),
        ("[rules.pin]\nmaxretry = 0", ["rules.pin.maxretry = 0", "from 1 to 1000"]),
        ('[rules.pin]\nbantime = "soon"', ["rules.pin.bantime = 'soon'", '"2s" to "3650d"']),
        ('ignoreip = ["10.0.0.1/8"]', ["ignoreip", "10.0.0.1/8"]),
        ('[redis]\nurl = "http://example.com"', ["redis.url", "redis://HOST:PORT/DB"]),
        ('[enforcer]\nbackend = "pf"', ["enforcer.backend = 'pf'", "iptables"]),
        ("[receiver", ["is not TOML"]),
    ],
)
@pytest.mark.parametrize("command", ["pinban-receiver", "pinban-enforcer", "pinban"])
def test_bad_settings(host: Namespace, place: Path, command: str, toml: str, words: list[str]) -> None:
    file = place / "pinban.toml"
    file.write_text(toml)
    line = refusal(host, program(command), "-c", str(file), *(["status"] if command == "pinban" else []))
    for word in (str(file), *words):
        assert word in line


@pytest.mark.parametrize("command", ["pinban-receiver", "pinban-enforcer"])
def test_a_missing_file_of_settings(host: Namespace, place: Path, command: str) -> None:
    line = refusal(host, program(command), "-c", str(place / "none.toml"))
    assert "none.toml: cannot be read" in line
    assert "name a file with -c" in line


def test_a_taken_udp_port(host: Namespace) -> None:
    with host.call(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as taken:
        taken.bind(("127.0.0.1", 5514))
        line = refusal(host, program("pinban-receiver"))
    assert "receiver.listen = 'udp:127.0.0.1:5514'" in line
    assert "stop it or choose another" in line


def test_a_taken_http_port(host: Namespace) -> None:
    with host.call(lambda: socket.create_server(("127.0.0.1", 8514))):
        line = refusal(host, program("pinban-receiver"))
    assert "receiver.http = '127.0.0.1:8514'" in line
    assert "stop it or choose another" in line


def test_an_address_that_this_host_has_not(host: Namespace, place: Path) -> None:
    (place / "pinban.toml").write_text('[receiver]\nlisten = ["udp:192.0.2.1:5514"]')
    line = refusal(host, program("pinban-receiver"), "-c", str(place / "pinban.toml"))
    assert "receiver.listen = 'udp:192.0.2.1:5514'" in line
    assert "no such address; choose one of its own" in line


@pytest.mark.parametrize("options", [(), ("--disarm",)])
def test_an_enforcer_without_rights(host: Namespace, options: tuple[str, ...]) -> None:
    line = refusal(host, *POWERLESS, program("pinban-enforcer"), *options)
    assert "run as root or with CAP_NET_ADMIN" in line


@pytest.mark.parametrize(
    "words", [["status"], ["bans"], ["ban", "203.0.113.1"], ["unban", "203.0.113.1"], ["counters"]]
)
def test_an_operator_whose_redis_cannot_be_reached(host: Namespace, words: list[str]) -> None:
    """No server on the default URL of this host."""
    line = refusal(host, program("pinban"), *words)
    assert "redis://127.0.0.1:6379/0" in line
    assert "cannot be reached" in line
    assert "is it running" in line


def test_an_operator_who_mistypes_an_address(host: Namespace) -> None:
    line = refusal(host, program("pinban"), "ban", "203.0.113.777")
    assert "203.0.113.777" in line
    assert "write 203.0.113.7" in line
