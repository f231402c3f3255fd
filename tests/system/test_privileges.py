"""What the daemons may do: the receiver nothing, the enforcer two things, started as root or not; and their secrets."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.lab.daemons import set_constants
from tests.lab.kernel import members, traces
from tests.lab.one_host import OneHost, public_folder
from tests.lab.process import PATIENCE_S, ROOT, Process, wait_until
from tests.lab.views import program

NOBODY = 65534

#: The first folder on the way to the checkout that only its owner may pass, as /root; "" when there is none.
CLOSED = next((str(folder) for folder in reversed(ROOT.parents) if not folder.stat().st_mode & 0o001), "")

#: Puts the checkout, for what is started behind this alone, where it is but below folders that everybody may pass.
UNCOVER = (
    'umask 022; mount --rbind "$1" /mnt; mount -t tmpfs -o mode=755 tmpfs "$0"; mkdir -p "$1"; mount --move /mnt "$1"'
)
REACHING = ("unshare", "--mount", "sh", "-ec", f'{UNCOVER}; shift; exec "$@"', CLOSED, str(ROOT)) if CLOSED else ()

AS_NOBODY = (*REACHING, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")

#: As CapabilityBoundingSet= and AmbientCapabilities= of the units do it.
NO_RIGHTS = (*AS_NOBODY, "--bounding-set=-all", "--inh-caps=-all")
TWO_RIGHTS = (
    *AS_NOBODY,
    "--bounding-set=-all,+net_admin,+net_raw",
    "--inh-caps=-all,+net_admin,+net_raw",
    "--ambient-caps=-all,+net_admin,+net_raw",
)

#: CAP_NET_ADMIN and CAP_NET_RAW (linux/capability.h).
TWO = 1 << 12 | 1 << 13

KINDS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


@pytest.fixture
def place() -> Iterator[Path]:
    with public_folder() as place:
        yield place


def rights(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {kind: int(line.split()[1], 16) for kind in KINDS for line in lines if line.startswith(kind)}


#: CAP_SYS_NICE, kept where we lack CAP_SYS_RESOURCE, as some containers do: the limit then cannot be raised instead.
NICE = 0 if resource.getrlimit(resource.RLIMIT_RTPRIO)[1] or rights(os.getpid())["CapEff"] & 1 << 24 else 1 << 23


def user(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


def name(pid: int) -> str:
    """Of a process; "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def daemons(host: OneHost, *names: str) -> list[int]:
    return [pid for pid in host.namespace.pids() if name(pid) in names]


def lock_of_group(place: Path, group: int) -> tuple[str, ...]:
    """/run/xtables.lock as systemd/tmpfiles.d makes it, for one process and its children."""
    lock = place / "xtables.lock"
    lock.touch()
    os.chown(lock, 0, group)
    lock.chmod(0o660)
    mount = 'mount --bind "$0" /run/xtables.lock && exec "$@"'
    return "unshare", "--mount", "sh", "-c", mount, str(lock)


def test_without_any_right_a_receiver_does_all_it_does(place: Path) -> None:
    listening = place / "log"
    listening.mkdir()
    os.chown(listening, NOBODY, NOBODY)
    told = {
        "receiver": {
            "listen": ["udp:127.0.0.1:5514", f"unix:{listening}/log.sock"],
            "socket_group": "nogroup",
            "receive_buffer": 1 << 30,
        }
    }
    with OneHost(place / "host", receiver=told, before={"receiver": NO_RIGHTS}) as host:
        assert "set sysctl net.core.rmem_max=1073741824" in host.receiver.log.read_text()
        host.fail("203.0.113.1", 5)
        host.await_ban("203.0.113.1")
        before = set(host.receiver.workers())
        os.kill(min(before), signal.SIGKILL)
        host.receiver.signal(signal.SIGHUP)
        wait_until(lambda: "settings reloaded" in host.receiver.log.read_text(), "the reload")
        host.fail("203.0.113.2", 5)
        host.await_ban("203.0.113.2")
        host.await_well()
        wait_until(lambda: len(set(host.receiver.workers()) - before) == 2, "there are new workers")
        wait_until(lambda: not before & set(host.receiver.workers()), "and none of the old ones")
        processes = daemons(host, "pinban-receiver")
        assert len(processes) >= 3
        for pid in processes:
            assert user(pid) == NOBODY
            assert rights(pid) == dict.fromkeys(KINDS, 0)
        assert (listening / "log.sock").stat().st_gid == NOBODY
        assert host.receiver.stop() == 0


def test_with_its_two_rights_and_the_lock_an_enforcer_that_is_not_root_does_all_it_does(place: Path) -> None:
    before = (*lock_of_group(place, NOBODY), *TWO_RIGHTS)
    with OneHost(place / "host", before={"enforcer": before}) as host:
        host.fail("203.0.113.1", 5)
        host.await_ban("203.0.113.1")
        assert len([line for line in traces(host.namespace) if "-A pinban" in line]) == 4
        [pid] = daemons(host, "pinban-enforcer")
        assert user(pid) == NOBODY
        assert rights(pid) == dict.fromkeys(KINDS, TWO)
        assert host.enforcer.stop() == 0
        host.namespace.run(["iptables-legacy", "-w", "-F"])
        host.namespace.run(["ipset", "flush", "pinban4"])
        host.enforcer.start()
        host.await_ban("203.0.113.1")
        assert len([line for line in traces(host.namespace) if "-A pinban" in line]) == 4
        host.enforcer.stop()
        host.namespace.run([*host.enforcer.argv, "--disarm"])
        assert traces(host.namespace) == []


def test_an_enforcer_that_may_not_take_the_lock_says_so_in_one_line(place: Path) -> None:
    with OneHost(place / "host", start=False) as host:
        done = host.namespace.run([*lock_of_group(place, 0), *TWO_RIGHTS, *host.enforcer.argv], check=False)
    assert done.returncode == 2
    [_] = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert "cannot lock /run/xtables.lock" in done.stderr


def test_started_as_root_both_give_up_what_they_do_not_need_and_stay_quick(place: Path) -> None:
    with OneHost(place / "host") as host:
        host.fail("203.0.113.1", 5)
        host.await_ban("203.0.113.1")
        receivers, enforcers = daemons(host, "pinban-receiver"), daemons(host, "pinban-enforcer")
        assert len(receivers) == 3
        assert len(enforcers) == 1
        for pids, kept in ((receivers, 0), (enforcers, TWO)):
            for pid in pids:
                assert rights(pid) == dict.fromkeys(KINDS, 0) | dict.fromkeys(KINDS[1:4], kept | NICE)
                assert "NoNewPrivs:\t1\n" in Path(f"/proc/{pid}/status").read_text(), "and what they start gains none"
        for daemon in (receivers[-1:], enforcers):
            wait_until(partial(has_quick_thread, daemon), "a thread that is quick")
        assert host.enforcer.stop() == 0
        host.namespace.run([*host.enforcer.argv, "--disarm"])
        assert traces(host.namespace) == []


def has_quick_thread(pids: list[int]) -> bool:
    return any(is_real_time(thread) for pid in pids for thread in threads(pid))


def threads(pid: int) -> list[int]:
    return [int(path.name) for path in Path(f"/proc/{pid}/task").iterdir()]


def is_real_time(thread: int) -> bool:
    return os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR


class Manager:
    """The end of sd_notify(3) that systemd has."""

    def __init__(self, place: Path) -> None:
        self.path = place / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o666)

    def next(self, seconds: float = PATIENCE_S) -> list[str]:
        """The lines of the next message; TimeoutError if none comes."""
        self._socket.settimeout(seconds)
        return self._socket.recv(4096).decode().splitlines()

    def until(self, sign: str) -> list[str]:
        while sign not in (lines := self.next()):
            pass
        return lines

    def is_starving(self) -> bool:
        """Whether none of five messages in a row feeds the watchdog."""
        return not any("WATCHDOG=1" in self.next() for _ in range(5))

    def close(self) -> None:
        self._socket.close()


@contextmanager
def managed(place: Path) -> Iterator[Manager]:
    manager = Manager(place)
    try:
        yield manager
    finally:
        manager.close()


def test_an_enforcer_is_ready_when_it_is_armed_and_says_how_it_is_and_when_it_stops(place: Path) -> None:
    lock = place / "lock"
    with managed(place) as manager:
        told = ("env", f"NOTIFY_SOCKET={manager.path}", "WATCHDOG_USEC=600000", f"XTABLES_LOCKFILE={lock}")
        with OneHost(place / "host", before={"enforcer": told}, start=False) as host:
            host.enforcer.start()
            assert manager.next() == ["READY=1", "STATUS=armed; reads the ledger"]
            assert len([line for line in traces(host.namespace) if "-A pinban" in line]) == 4
            status = manager.until("WATCHDOG=1")[-1]
            assert status.startswith("STATUS=")
            wait_until(lambda: "cannot be reached" in manager.until("WATCHDOG=1")[-1], "Redis is away, as it is told")
            host.redis.start()
            host.redis.await_ready()
            host.receiver.start()
            host.receiver.await_ready(host.receiver.is_ready)
            wait_until(lambda: "follows the ledger, revision 0" in manager.until("WATCHDOG=1")[-1], "all is well")
            host.fail("203.0.113.1", 5)
            host.await_ban("203.0.113.1")
            assert "NOTIFY_SOCKET" not in environment_of_a_child(host, lock)
            host.enforcer.signal(signal.SIGTERM)
            assert manager.until("STOPPING=1")[-1] == "STATUS=stops; protection stays in place"
            assert host.enforcer.stop() == 0
            assert "203.0.113.1" in members(host.namespace)


def environment_of_a_child(host: OneHost, lock: Path) -> str:
    """Of the program of rules, which waits for this lock when the enforcer has it mend something."""
    found: list[str] = []

    def seen() -> bool:
        for file in Path(f"/proc/{host.enforcer.pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):
                for child in file.read_text().split():
                    if "enforcer.xtables" in Path(f"/proc/{child}/cmdline").read_text():  # no more a copy of its parent
                        found.append(Path(f"/proc/{child}/environ").read_text())
        return bool(found)

    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        host.namespace.run(["iptables-legacy", "-F"])
        wait_until(seen, "the program of rules is started")
    assert f"XTABLES_LOCKFILE={lock}" in found[0]
    return found[0]


IMPATIENT = "import sys, enforcer.main as main; main.STUCK_S = 0.7; sys.exit(main.main(sys.argv[1:]))"


def test_the_watchdog_starves_while_a_thread_is_stuck(place: Path) -> None:
    """The lock of the tables is not ours for a while: a repair waits for it, and so does the ban that asked for it."""
    lock = place / "lock"
    with managed(place) as manager, lock.open("w") as file:
        told = ("env", f"NOTIFY_SOCKET={manager.path}", "WATCHDOG_USEC=600000", f"XTABLES_LOCKFILE={lock}")
        with OneHost(place / "host", start=False) as host:
            set_constants(host.enforcer, {"enforcer.main.STUCK_S": 0.7})
            host.enforcer.argv = [*told, *host.enforcer.argv]
            host.start()
            manager.until("WATCHDOG=1")
            fcntl.flock(file, fcntl.LOCK_EX)
            host.namespace.run(["iptables-legacy", "-F"])
            host.namespace.run(["ip6tables-legacy", "-F"])
            host.namespace.run(["ipset", "destroy", "pinban4"])
            host.fail("203.0.113.1", 5)
            wait_until(manager.is_starving, "nobody feeds the watchdog")
            fcntl.flock(file, fcntl.LOCK_UN)
            manager.until("WATCHDOG=1")
            host.await_ban("203.0.113.1")


def test_a_receiver_says_that_it_is_ready(place: Path) -> None:
    with managed(place) as manager:
        told = {"receiver": ("env", f"NOTIFY_SOCKET={manager.path}", *NO_RIGHTS)}
        with OneHost(place / "host", before=told):
            assert "READY=1" in manager.until("READY=1")


SECRET = "correct-horse-battery"
FORMER = "former-horse-battery"


@pytest.mark.parametrize("kept_in", ["url", "file"])
def test_no_secret_shows(place: Path, kept_in: str) -> None:
    """In logs, command lines, environments of what we start, the daemons' own reports, and an operator's screen."""
    password = place / "password"
    password.write_text(SECRET)
    if kept_in == "url":
        told = {"redis": {"url": f"redis://default:{SECRET}@127.0.0.1:6379/0"}}
        environment = [f"PINBAN_REDIS_URL=redis://:{SECRET}@127.0.0.1:6379/0"]
    else:
        told, environment = {"redis": {"password_file": str(password)}}, []
    lock = place / "lock"
    config = str(place / "host" / "receiver.toml")
    with OneHost(
        place / "host",
        redis={"requirepass": FORMER},
        login=("default", FORMER),
        receiver=told,
        enforcer=told if kept_in == "file" else None,
        before={"enforcer": ("env", f"XTABLES_LOCKFILE={lock}", *environment)},
        start=False,
    ) as host:
        host.redis.start()
        host.redis.await_ready()
        host.receiver.start()
        host.enforcer.start()
        for process in (host.receiver, host.enforcer):  # a wrong password is an error, and errors tell things
            await_words(process, "refuses our password")
        refused = host.namespace.run([program("pinban"), "-c", config, "status"], check=False)
        assert "refuses our password" in refused.stderr

        with host.redis.client() as client:
            client.config_set("requirepass", SECRET)
            host.fail("203.0.113.1", 5)
            host.await_ban("203.0.113.1")
            nodes = [str(client.hgetall(f"{{pinban}}:node:{node}")) for node in ("rx1", "rp1")]
            names = str(client.client_list())
        shown = [host.namespace.run([program("pinban"), "-c", config, *words], check=False) for words in OPERATIONS]
        processes = daemons(host, "pinban-receiver", "pinban-enforcer")
        assert len(processes) == 4
        lines = [Path(f"/proc/{pid}/cmdline").read_text() for pid in processes]
        lines += [Path(f"/proc/{pid}/comm").read_text() for pid in processes]
        inherited = environment_of_a_child(host, lock)
        host.redis.stop()
        away = host.namespace.run([program("pinban"), "-c", config, "status"], check=False)
        assert "cannot be reached" in away.stderr
        told_of = [refused.stdout + refused.stderr, away.stdout + away.stderr, names, inherited, *nodes, *lines]
        told_of += [done.stdout + done.stderr for done in shown]
        told_of += [process.log.read_text() for process in (host.receiver, host.enforcer)]
    for text in told_of:
        assert text
        assert SECRET not in text
        assert FORMER not in text


OPERATIONS = (["status"], ["status", "--json"], ["bans", "--json"], ["check"], ["ban", "203.0.113.9"], ["history"])


def await_words(process: Process, words: str) -> None:
    wait_until(lambda: process.log.exists() and words in process.log.read_text(), f"{process.name}: {words}")
