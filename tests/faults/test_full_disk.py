"""A full disk: under Redis' append-only file, in /dev/shm, and where the logs go. Bans still happen and still hold."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.tools import agree, await_said, ban, ledger_writer, sparing, spoken
from tests.lab.datagrams import Sender, failure
from tests.lab.kernel import members
from tests.lab.lab import Lab
from tests.lab.process import Process, wait_until
from tests.lab.views import await_ban, ledger


def mounted(process: Process, place: Path, options: str) -> None:
    """Give a program that is not started yet a small disk of its own at this place (unshare(1), tmpfs(5))."""
    script = f'mount -t tmpfs -o {options} tmpfs {place} && exec "$@"'
    process.argv[:0] = ["unshare", "--mount", "sh", "-c", script, "sh"]


@contextmanager
def filled(process: Process, place: Path) -> Iterator[None]:
    """Not a byte and not a file more has room there, as this program sees it."""
    seen = Path(f"/proc/{process.pid}/root{place}")
    block = seen / "block"
    with block.open("wb", buffering=0) as file:
        until_full(lambda: file.write(bytes(4096)))
    files = (seen / f"file{n}" for n in itertools.count())
    until_full(lambda: next(files).touch())
    yield
    for path in (block, *seen.glob("file*")):
        path.unlink()


def until_full(take: Callable[[], object]) -> None:
    """Take room again and again until there is none."""
    try:
        while True:
            take()
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Redis writes to a disk of 2 MiB; the receiver has a /dev/shm of 64 KiB; rp2's enforcer logs to a full disk."""
    lab = Lab(rps=2)
    data = lab.directory / "data"
    data.mkdir()
    argv = lab.redis.process.argv
    argv[argv.index("--dir") + 1] = str(data)
    mounted(lab.redis.process, data, "size=2m,nr_inodes=64")
    assert lab.receiver
    mounted(lab.receiver, Path("/dev/shm"), "size=64k,nr_inodes=16")
    speechless = lab.rps[1].enforcer
    assert speechless
    speechless.argv[:0] = ["sh", "-c", 'exec "$@" 2>/dev/full', "sh"]
    with lab:
        yield lab


def fails_five_times(lab: Lab, address: str) -> None:
    with Sender(lab.rps[0].host.namespace) as sender:
        sender.pour((failure(address, f"{address}-{n}") for n in range(5)), per_ms=1)


@pytest.mark.row(26)
def test_with_redis_disk_full_bans_stand_failures_wait_and_count_when_there_is_room(lab: Lab) -> None:
    receiver = lab.receiver
    assert receiver
    with ledger_writer(lab.redis) as writer:
        ban(writer, "192.0.2.26")
    agree(lab)
    since, began = spoken(receiver), time.monotonic()
    with filled(lab.redis.process, lab.directory / "data"):
        wait_until(lambda: receiver.status("/readyz") == 503, "the receiver cannot count")
        fails_five_times(lab, "192.0.2.27")
        await_said(receiver, "cannot write to its disk", since)
        await_said(receiver, "failures wait", since)
        assert "192.0.2.27" not in ledger(lab.redis)
        assert all("192.0.2.26" in members(rp.host.namespace) for rp in lab.rps)
        said = receiver.log.read_text()[since:]
        complaints = said.count("cannot write to its disk")
        assert complaints <= sparing(began), "not faster than once in five seconds and thread"
    await_ban(lab, "192.0.2.27")
    wait_until(receiver.is_ready, "it is ready again")
    agree(lab)


@pytest.mark.row(26)
def test_with_dev_shm_full_a_dead_worker_is_replaced_all_the_same(lab: Lab) -> None:
    receiver = lab.receiver
    assert receiver
    with filled(receiver, Path("/dev/shm")):
        for victim in receiver.workers():
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: len(set(receiver.workers()) - {victim}) == 2, "it is replaced")  # noqa: B023
        before = set(receiver.workers())
        receiver.signal(signal.SIGHUP)  # the new ones start before the old ones end
        wait_until(lambda: len(receiver.workers()) == 2 and not before & set(receiver.workers()), "a reload works too")
        fails_five_times(lab, "192.0.2.28")
        await_ban(lab, "192.0.2.28")
        wait_until(receiver.is_ready, "it is ready")


@pytest.mark.row(26)
def test_an_enforcer_whose_log_is_full_enforces(lab: Lab) -> None:
    fails_five_times(lab, "192.0.2.29")
    await_ban(lab, "192.0.2.29")
    speechless = lab.rps[1].enforcer
    assert speechless
    assert speechless.running
    assert speechless.log.read_text() == ""
