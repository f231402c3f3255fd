"""`pinban run`, everything on one host: a network namespace with a store, a receiver and an enforcer of its own."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.lab.daemons import HTTP, to_toml
from tests.lab.datagrams import Sender, failure
from tests.lab.http1 import Connection
from tests.lab.kernel import members, traces
from tests.lab.netns import Namespace, unique_prefix
from tests.lab.process import Process, wait_until
from tests.lab.views import program

#: Root without any of its rights: another user might not even be able to read the checkout.
POWERLESS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
OWN = "198.51.100.5"
LISTEN = ("127.0.0.1", 5514)


@pytest.fixture
def host() -> Iterator[Namespace]:
    namespace = Namespace(f"{unique_prefix()}-host")
    namespace.create()
    namespace.configure(f"addr add {OWN}/32 dev lo")
    yield namespace
    assert namespace.remove() == [], "no process is left"


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name, because a socket's path must be short."""
    path = Path(tempfile.mkdtemp(prefix="pinban-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def all_in_one(host: Namespace, place: Path, *before: str) -> Process:
    """The command, with a state directory below `place`."""
    (place / "state").mkdir()
    (place / "pinban.toml").write_text(to_toml({"state_dir": str(place / "state")}) + "\n")
    return Process("run", [*before, program("pinban"), "-c", str(place / "pinban.toml"), "run"], place, host)


def is_ready(host: Namespace) -> bool:
    def ask() -> bool:
        try:
            with Connection(*HTTP) as connection:
                answer = connection.ask("GET", "/readyz")
        except OSError:
            return False
        return answer is not None and answer.status == 200

    return host.call(ask)


def fail(host: Namespace, address: str, times: int) -> None:
    with Sender(host, LISTEN) as sender:
        for n in range(times):
            sender.send(failure(address, f"{address}-{n}"))


def interrupted(running: Process, host: Namespace) -> int:
    """Ctrl-C, and the exit code; nothing of it is left."""
    running.signal(signal.SIGINT)
    wait_until(lambda: not running.running, "it ends")
    assert host.pids() == []
    return running.stop()


def test_a_guesser_is_banned_and_ctrl_c_ends_it_all(host: Namespace, place: Path) -> None:
    running = all_in_one(host, place)
    running.start()
    running.await_ready(lambda: is_ready(host) and len(traces(host)) > 6)
    greeting = running.log.read_text()
    assert "pinban.conf;" in greeting
    assert "Ctrl-C stops it" in greeting

    fail(host, OWN, 9)
    fail(host, "127.0.0.1", 9)
    fail(host, "203.0.113.50", 4)
    fail(host, "203.0.113.51", 5)
    wait_until(lambda: members(host) == {"203.0.113.51"}, "the fifth failure is a ban in the kernel")
    with redis.Redis(unix_socket_path=str(place / "state" / "redis.sock")) as client:
        wait_until(lambda: client.hget("{pinban}:node:rx1", "ignored") == b"18", "own addresses are ignored")
        assert client.get("pinban:count:{203.0.113.50}:pin") == b"4"
        assert client.zrange("{pinban}:bans", 0, -1) == [b"203.0.113.51"]

    assert interrupted(running, host) == 0
    assert members(host) == {"203.0.113.51"}, "protection stays"
    assert "Traceback" not in running.log.read_text()


def test_what_is_banned_and_counted_survives_a_new_start(host: Namespace, place: Path) -> None:
    running = all_in_one(host, place)
    running.start()
    running.await_ready(lambda: is_ready(host))
    fail(host, "203.0.113.52", 5)
    fail(host, "203.0.113.53", 3)
    wait_until(lambda: members(host) == {"203.0.113.52"}, "banned")
    assert interrupted(running, host) == 0
    host.run(["ipset", "flush", "pinban4"])

    running.start()
    running.await_ready(lambda: is_ready(host))
    wait_until(lambda: members(host) == {"203.0.113.52"}, "the ban is back in the kernel")
    with Sender(host, LISTEN) as sender:
        for n in range(2):
            sender.send(failure("203.0.113.53", f"later-{n}"))
    wait_until(lambda: members(host) == {"203.0.113.52", "203.0.113.53"}, "three and two failures are five")
    assert interrupted(running, host) == 0


def test_a_second_instance_is_refused(host: Namespace, place: Path) -> None:
    running = all_in_one(host, place)
    running.start()
    running.await_ready(lambda: is_ready(host))
    second = host.run(running.argv, check=False)
    assert second.returncode != 0
    assert len(second.stderr.strip().splitlines()) == 1
    assert "is running already" in second.stderr
    assert "stop it first" in second.stderr
    assert is_ready(host), "the first one goes on"
    assert interrupted(running, host) == 0


def test_without_root_it_says_so_and_drops_nothing(host: Namespace, place: Path) -> None:
    running = all_in_one(host, place, *POWERLESS)
    running.start()
    running.await_ready(lambda: is_ready(host))
    assert "without root nothing is dropped" in running.log.read_text()
    fail(host, "203.0.113.54", 5)
    wait_until(lambda: "dry run: would drop 203.0.113.54" in running.log.read_text(), "the ban is shown")
    assert traces(host) == []
    assert interrupted(running, host) == 0


def test_a_daemon_that_dies_ends_the_whole_with_an_error(host: Namespace, place: Path) -> None:
    running = all_in_one(host, place)
    running.start()
    running.await_ready(lambda: is_ready(host))
    wait_until(lambda: "pinban-enforcer" in " ".join(map(command_of, host.pids())), "the enforcer runs")
    os.kill(next(pid for pid in host.pids() if "pinban-enforcer" in command_of(pid)), signal.SIGKILL)
    wait_until(lambda: not running.running, "it ends by itself")
    assert running.stop() == 1
    assert "pinban-enforcer ended" in running.log.read_text()
    assert host.pids() == []


def command_of(pid: int) -> str:
    """Of a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""
