"""The file that an enforcer writes for health checks: from its first reading of the ledger on, Redis or no Redis."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.daemons import Enforcer
from tests.lab.lab import Lab
from tests.lab.process import wait_until


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(rps=1) as lab:
        yield lab


@pytest.fixture
def alive(lab: Lab) -> Path:
    """The file; its folder is not there yet."""
    return lab.directory / "run" / "alive"


@pytest.fixture
def enforcer(lab: Lab, alive: Path) -> Iterator[Enforcer]:
    """One that will write the file once it is started."""
    enforcer = lab.rps[0].enforcer
    assert enforcer
    enforcer.stop()
    before = enforcer.argv
    enforcer.argv = [*before, "--alive", str(alive)]
    alive.unlink(missing_ok=True)
    yield enforcer
    enforcer.stop()
    enforcer.argv = before


def written_again(file: Path) -> bool:
    before = file.stat().st_mtime_ns
    wait_until(lambda: file.stat().st_mtime_ns > before, f"{file.name} is written again")
    return True


def test_it_names_the_network_namespace_and_is_written_on_while_redis_is_away(
    lab: Lab, enforcer: Enforcer, alive: Path
) -> None:
    enforcer.start()
    wait_until(lambda: alive.exists() and alive.read_text() != "", "the file is there")
    here = lab.rps[0].host.namespace.call(lambda: os.readlink("/proc/thread-self/ns/net"))
    wait_until(lambda: alive.read_text() == here, "it names the namespace")
    lab.redis.stop()
    try:
        wait_until(lambda: "standing bans stay" in enforcer.tail(), "the enforcer misses Redis")
        assert written_again(alive)
        assert written_again(alive)
    finally:
        lab.redis.start()
        lab.redis.await_ready()


def test_who_has_never_read_the_ledger_does_not_write_it(lab: Lab, enforcer: Enforcer, alive: Path) -> None:
    lab.redis.stop()
    try:
        enforcer.log.write_text("")
        enforcer.start()
        wait_until(lambda: "standing bans stay" in enforcer.tail(), "the enforcer misses Redis")
        wait_until(lambda: "more like it" in enforcer.tail(), "it goes on missing it")
        assert not alive.exists()
    finally:
        lab.redis.start()
        lab.redis.await_ready()
    wait_until(alive.exists, "the file is there")
