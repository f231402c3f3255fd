"""What the tests of faults have in common: numbered failures, agreement of kernels, signals to a whole tree."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.addresses import Network
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Redis, Settings
from shared.store.connection import connect
from shared.store.store import Store
from tests.lab.accounts import totals
from tests.lab.daemons import Receiver
from tests.lab.datagrams import failure
from tests.lab.kernel import members
from tests.lab.lab import Lab
from tests.lab.process import LabError, Process, wait_until
from tests.lab.redis_server import RedisServer
from tests.lab.views import ledger

#: How long a fault lasts that is to be noticed, s: six of silence and what it takes to say so.
NOTICED_S = 7.0


@contextmanager
def ledger_writer(server: RedisServer) -> Iterator[Ledger]:
    """A ledger to write to, by the unix socket: no fault of the network is in the way."""
    settings = Settings(redis=Redis(url=f"unix://{server.socket}"))
    with connect(settings, "test", 2.0).client as client:
        yield Ledger(Store(client))


def ban(ledger: Ledger, address: str, ms: int = 600_000) -> None:
    ledger.ban(NewBan(Network(address), ms, "pin", "[]", "test"))


def numbered(count: int, net: str = "203.0", per_address: int = 4) -> Iterator[bytes]:
    """Failures with ids of their own, so many of each address: by default one less than makes a ban."""
    for n in range(count):
        which = n // per_address
        yield failure(f"{net}.{which // 250}.{which % 250 + 1}", f"{net}-{n}")


def ids(count: int, net: str = "203.0") -> set[str]:
    """Those of `numbered`."""
    return {f"{net}-{n}" for n in range(count)}


def agree(lab: Lab) -> None:
    """Every kernel holds the ledger, no more and no less."""
    for rp in lab.rps:
        host = rp.host.namespace
        try:
            wait_until(lambda: members(host) == ledger(lab.redis), f"{rp.host.name} holds the ledger")  # noqa: B023
        except LabError as error:
            kernel, truth = members(host), ledger(lab.redis)
            log = rp.enforcer.tail() if rp.enforcer else ""
            raise LabError(f"{error}; in one alone: {sorted(kernel ^ truth)[:20]}\n{log}") from error


def counted_all(server: RedisServer, failures: int) -> None:
    """Return when the receiver says that it has counted so many failures since it started, and none waits."""

    def settled() -> bool:
        now = totals(server)
        return now.get("counted") == failures and now.get("queued") == 0

    wait_until(settled, f"{failures} failures are counted")


def said(process: Process, text: str, since: int = 0) -> bool:
    """Whether the log has this after its first `since` characters."""
    return text in process.log.read_text(errors="replace")[since:]


def await_said(process: Process | None, text: str, since: int = 0) -> None:
    """Return as soon as the log says this."""
    assert process
    wait_until(lambda: said(process, text, since), f"{process.name} says {text!r}")


def logged(lab: Lab) -> dict[str, int]:
    """How long the logs of the enforcers are now."""
    return {rp.host.name: spoken(rp.enforcer) for rp in lab.rps if rp.enforcer}


def spoken(process: Process) -> int:
    """How long the log is now."""
    return len(process.log.read_text(errors="replace"))


def sparing(began: float) -> float:
    """How often the receiver may have complained since: two threads of each of two workers, once in five seconds."""
    return 4 * (1 + (time.monotonic() - began) / 5)


def tree(receiver: Receiver) -> list[int]:
    """The receiver's arbiter and workers."""
    return [receiver.pid, *receiver.workers()]


def stop_all(pids: Iterable[int]) -> None:
    """SIGSTOP to each; returns when all stand."""
    pids = list(pids)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(state(pid) == "T" for pid in pids), "they are stopped")


def continue_all(pids: Iterable[int]) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGCONT)


def state(pid: int) -> str:
    """The letter of proc(5); "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def reroute(process: Process, old: str, new: str) -> None:
    """Restart a daemon with another text in its settings."""
    file = Path(process.argv[-1])
    text = file.read_text()
    assert old in text
    process.stop()
    file.write_text(text.replace(old, new))
    process.start()
