"""`pinban doctor` against a real Redis, healthy and not; nginx's configuration is in tests/unit/pinban."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner

from pinban.cli import main
from pinban.doctor import examination
from pinban.doctor.finding import Finding
from shared.ledger.changes import Ledger
from tests.lab.nginx import SNIPPET
from tests.redis.conftest import Run
from tests.unit.pinban.nginx_samples import GOOD


def nginx(folder: Path) -> Path:
    """A good nginx.conf with the shipped snippet."""
    file = folder / "nginx.conf"
    file.write_text(f"events {{}}\nhttp {{\ninclude {SNIPPET};\n{GOOD}\n}}\n")
    return file


@pytest.fixture
def heartbeats(ledger: Ledger) -> Iterator[None]:
    """A receiver's heartbeat, as often as its maintenance asks for one."""
    over = threading.Event()

    def heartbeat() -> None:
        while not over.wait(0.2):
            ledger.heartbeat("rx1/1")

    thread = threading.Thread(target=heartbeat)
    thread.start()
    yield
    over.set()
    thread.join()


def examined(run: Run, tmp_path: Path) -> tuple[int, list[Finding]]:
    result = run("doctor", "--nginx", str(nginx(tmp_path)), "--json")
    rows: Any = json.loads(result.output)
    return result.exit_code, [Finding(**row) for row in rows]


def says(findings: list[Finding], state: str, words: str) -> bool:
    return any(finding.state == state and words in finding.text for finding in findings)


def test_a_living_ledger_is_good_and_missing_daemons_are_bad(
    run: Run, tmp_path: Path, heartbeats: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "_SLOW_MS", 1_000.0)  # what else this host does is no finding here
    code, findings = examined(run, tmp_path)
    assert code == 1
    assert says(findings, "ok", "a heartbeat came")
    assert says(findings, "ok", "answers in")
    assert says(findings, "bad", "no receiver is alive")


def test_a_redis_that_would_throw_bans_away_is_bad(
    run: Run, tmp_path: Path, client: redis.Redis, heartbeats: None
) -> None:
    client.config_set("maxmemory-policy", "allkeys-lru")
    try:
        _, findings = examined(run, tmp_path)
    finally:
        client.config_set("maxmemory-policy", "noeviction")
    assert says(findings, "bad", "maxmemory-policy allkeys-lru")
    assert says(findings, "note", "maxmemory is not set")


def test_a_slow_redis_is_noted(run: Run, tmp_path: Path, heartbeats: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "_SLOW_MS", 0.0)  # then every Redis is
    _, findings = examined(run, tmp_path)
    assert says(findings, "note", "a ban waits for several answers")
    assert not says(findings, "ok", "answers in")


@pytest.mark.parametrize(
    ("version", "old"),
    [("5.0.14", True), ("6.0.20", True), ("6.1.999", True), ("6.2", False), ("6.2.0", False), ("6.10.0", False),
     ("7.0.15", False), ("10.0.0", False), ("255.255.255", False), ("7", False), ("6", True), ("unstable", False),
     ("", False)],
)  # fmt: skip
def test_a_redis_before_6_2_is_too_old(version: str, old: bool) -> None:
    assert examination._too_old(version) is old


def test_silence_on_the_channel_is_bad(run: Run, tmp_path: Path) -> None:
    _, findings = examined(run, tmp_path)
    assert says(findings, "bad", "no heartbeat in 5 s")


def test_a_redis_that_is_away_is_one_line(tmp_path: Path) -> None:
    config = tmp_path / "pinban.toml"
    config.write_text(f'[redis]\nurl = "unix://{tmp_path}/nobody"\n')
    result = CliRunner().invoke(main, ["-c", str(config), "doctor"])
    assert result.exit_code == 1
    assert "bad  redis: Redis at unix" in result.output
