"""receiver.http: what cannot be bound is refused, at the start and at a reload. And /readyz is steady."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.netns import Namespace
from tests.lab.one_host import OneHost, public_folder
from tests.lab.process import wait_until
from tests.lab.views import program
from tests.system.test_bad_starts import refusal

TAKEN = ("127.0.0.1", 8600)


@pytest.fixture
def host() -> Iterator[OneHost]:
    with public_folder() as place, OneHost(place / "host") as host:
        yield host


def listener(namespace: Namespace) -> socket.socket:
    def listen() -> socket.socket:
        taken = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        taken.bind(TAKEN)
        taken.listen()
        return taken

    return namespace.call(listen)


def reload_with(host: OneHost, old: str, new: str, said: str) -> None:
    """Change a word of the settings' file, and wait for what the receiver says to SIGHUP."""
    file = Path(host.receiver.argv[-1])
    file.write_text(file.read_text().replace(old, new))
    host.receiver.signal(signal.SIGHUP)
    wait_until(lambda: said in host.receiver.log.read_text(), f"the receiver says {said!r}")


def test_a_reload_to_a_port_that_is_taken_changes_nothing_and_ends_nothing(host: OneHost) -> None:
    with listener(host.namespace):
        reload_with(host, ":8514", f":{TAKEN[1]}", "the settings stay as they were")
    log = host.receiver.log.read_text()
    assert f"receiver.http = '127.0.0.1:{TAKEN[1]}': another process listens there" in log
    assert "settings reloaded" not in log
    before = host.receiver.pid
    host.fail("203.0.113.7", 5)
    host.await_ban("203.0.113.7")
    assert host.receiver.pid == before
    wait_until(host.receiver.is_ready, "the new workers are ready, on the old port")


def test_a_reload_to_a_port_that_only_root_may_have_changes_nothing(host: OneHost) -> None:
    reload_with(host, ":8514", ":514", "the settings stay as they were")
    assert "receiver.http = '127.0.0.1:514': this user may not" in host.receiver.log.read_text()
    wait_until(host.receiver.is_ready, "the new workers are ready, on the old port")


def test_a_port_that_only_root_may_have_is_refused_at_the_start_although_root_starts_it(host: OneHost) -> None:
    """The receiver gives up root's rights before gunicorn binds."""
    file = host.directory / "low.toml"
    file.write_text('[receiver]\nlisten = ["udp:127.0.0.1:5600"]\nhttp = "127.0.0.1:80"\n')
    line = refusal(host.namespace, program("pinban-receiver"), "-c", str(file))
    assert line == (
        "pinban-receiver: receiver.http = '127.0.0.1:80': this user may not; choose a port from 1024 on, "
        "or a folder that it may write to"
    )


def test_a_key_of_another_type_is_told_once_and_readyz_stays(host: OneHost) -> None:
    with host.redis.client() as client:
        client.set("{pinban}:allow", "x")
        wait_until(lambda: "allow-list: " in host.receiver.log.read_text(), "the log names it")
        wait_until(lambda: b"allow-list" in (client.hget("{pinban}:node:rx1", "trouble") or b""), "the node tells it")
        heartbeat = client.get("{pinban}:heartbeat")
        statuses = {host.receiver.status("/readyz")}
        while client.get("{pinban}:heartbeat") == heartbeat:  # every chore has its turn until the next
            statuses.add(host.receiver.status("/readyz"))
        assert statuses == {200}
        client.delete("{pinban}:allow")
        wait_until(lambda: client.hget("{pinban}:node:rx1", "trouble") == b"", "it is over")
    assert host.receiver.log.read_text().count("allow-list: ") <= len(host.receiver.workers()), "once for each worker"
