"""A unix socket holds ten datagrams only, and is read all the same while workers change: nginx's lines all count."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.faults.tools import await_said, spoken, state
from tests.lab.accounts import counted_ids, totals, unbalanced
from tests.lab.daemons import Receiver
from tests.lab.datagrams import failure
from tests.lab.lab import Lab
from tests.lab.process import wait_until

#: Lines a second, and the least that are sent while something is done to the receiver.
RATE, LEAST = 800, 1_600


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("unix") / "log.sock"


@pytest.fixture(scope="module")
def lab(path: Path) -> Iterator[Lab]:
    settings = {"receiver": {"listen": [f"unix:{path}"]}, "rules": {"pin": {"maxretry": 1000}}}
    with Lab(rps=0, settings=settings) as lab:
        assert lab.core.namespace.call(Path("/proc/sys/net/unix/max_dgram_qlen").read_text) == "10\n"
        yield lab


@pytest.fixture
def receiver(lab: Lab) -> Receiver:
    """It runs and has counted nothing yet."""
    assert lab.receiver
    lab.receiver.stop()
    lab.receiver.start()
    lab.receiver.await_ready(lab.receiver.is_ready)
    wait_until(lambda: totals(lab.redis).get("received") == 0, "it counts from zero")
    return lab.receiver


class Line:
    """Sends as nginx does: without waiting, and what does not fit is lost. Never more than one line at a time."""

    def __init__(self, path: Path, name: str) -> None:
        self.sent: list[str] = []
        self.lost = 0
        self._path = str(path)
        self._name = name
        self._enough = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Line:
        self._thread.start()
        wait_until(lambda: len(self.sent) > LEAST // 4, "lines flow")
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._thread.join()

    def _send(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as outlet:
            outlet.setblocking(False)
            outlet.connect(self._path)
            while len(self.sent) < LEAST or not self._enough.is_set():
                n = len(self.sent)
                id_ = f"{self._name}-{n}"
                try:
                    outlet.send(failure(f"203.0.113.{n % 200 + 1}", id_))
                except BlockingIOError:
                    self.lost += 1
                self.sent.append(id_)
                time.sleep(1 / RATE)


def whole(receiver: Receiver, but: list[int]) -> bool:
    """Two workers are there, none of them one of these."""
    now = set(receiver.workers())
    return len(now) == 2 and not now & set(but)


def reload(receiver: Receiver) -> None:
    receiver.signal(signal.SIGHUP)


def kill_all_workers(receiver: Receiver) -> None:
    for pid in receiver.workers():
        os.kill(pid, signal.SIGKILL)


@pytest.mark.row(11)
@pytest.mark.row(12)
@pytest.mark.parametrize("deed", [reload, kill_all_workers])
def test_every_line_arrives_while_workers_change(
    lab: Lab, receiver: Receiver, path: Path, deed: Callable[[Receiver], None]
) -> None:
    with Line(path, deed.__name__) as line:
        for _ in range(3):
            before = receiver.workers()
            deed(receiver)
            wait_until(partial(whole, receiver, before), "it is whole again")
            wait_until(receiver.is_ready, "it is ready again")
    assert line.lost == 0
    wait_until(lambda: totals(lab.redis).get("counted", 0) >= len(line.sent), "all are counted")
    mine = Counter(id_ for id_ in counted_ids(lab.redis).elements() if id_.startswith(deed.__name__))
    assert mine == Counter(line.sent)
    now = totals(lab.redis)
    assert unbalanced(now, len(line.sent)) == ""
    assert now["abandoned"] == 0


@pytest.mark.row(11)
def test_the_standby_is_replaced_when_it_dies_costs_little_and_dies_with_the_arbiter(
    lab: Lab, receiver: Receiver
) -> None:
    workers, since = receiver.workers(), spoken(receiver)
    [first] = receiver.standby()
    os.kill(first, signal.SIGKILL)
    await_said(receiver, "the standby ended; another one starts", since)
    wait_until(lambda: len(set(receiver.standby()) - {first}) == 1, "it is replaced")
    [second] = set(receiver.standby()) - {first}
    assert receiver.workers() == workers
    assert own_kb(second) < 0.5 * min(map(own_kb, workers))
    receiver.kill()
    wait_until(lambda: state(second) in ("", "Z"), "it ends with the arbiter")
    wait_until(lambda: all(state(pid) in ("", "Z") for pid in workers), "and so do the workers")


def own_kb(pid: int) -> int:
    """Memory that the process shares with no other (proc(5), smaps_rollup)."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))
