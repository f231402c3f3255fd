"""`pinban doctor` against real configurations of nginx and a real Redis, healthy and not."""

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
from pinban.doctor.nginx import examine
from shared.ledger.changes import Ledger
from tests.lab.nginx import SNIPPET
from tests.redis.conftest import Run

SERVER = "server { listen 80; location /api { proxy_pass http://node; proxy_ignore_client_abort on; %s } }"


def nginx(folder: Path, http: str, *, shipped: bool = True) -> Path:
    """An nginx.conf with this in its http block, behind the shipped snippet."""
    include = f"include {SNIPPET};" if shipped else ""
    file = folder / "nginx.conf"
    file.write_text(f"events {{}}\nhttp {{\n{include}\n{http}\n}}\n")
    return file


def found(file: Path, *states: str) -> list[str]:
    return [finding.text for finding in examine(file) if finding.state in (states or ("bad",))]


def test_the_shipped_snippet_is_good(tmp_path: Path) -> None:
    file = nginx(tmp_path, "access_log /var/log/nginx/access.log;\n" + SERVER % "")
    assert found(file, "bad", "note") == []
    [good] = found(file, "ok")
    assert "sends every request for a conference token to 127.0.0.1:5514" in good


def test_an_nginx_that_tells_nobody_is_bad(tmp_path: Path) -> None:
    [text] = found(nginx(tmp_path, "access_log /var/log/nginx/access.log;", shipped=False))
    assert "no access_log goes to syslog" in text


@pytest.mark.parametrize("format_", ["", "combined", "pexapp", "pinban_log"])
def test_a_format_that_clients_can_make_too_long_is_bad(tmp_path: Path, format_: str) -> None:
    log = f"""log_format pexapp '$remote_addr "$request" "$http_user_agent"';
    access_log syslog:server=10.0.0.5:5514,nohostname {format_};"""
    [text] = found(nginx(tmp_path, log, shipped=False))
    assert "too long for a datagram" in text


def test_such_a_format_beside_the_good_one_is_only_noted(tmp_path: Path) -> None:
    file = nginx(tmp_path, "access_log syslog:server=10.0.0.5:5514 combined;")
    assert found(file) == []
    assert any("combined" in text for text in found(file, "note"))


@pytest.mark.parametrize("log", ["access_log off;", "access_log /var/log/api.log;", "if ($bad) { access_log off; }"])
def test_a_log_that_replaces_the_inherited_one_is_bad(tmp_path: Path, log: str) -> None:
    [text] = found(nginx(tmp_path, SERVER % log))
    assert "replaces all that it inherits" in text


def test_a_log_that_repeats_the_line_is_good(tmp_path: Path) -> None:
    line = "access_log syslog:server=10.0.0.5:5514 pinban if=$pinban_kind;"
    assert found(nginx(tmp_path, SERVER % f"access_log off; {line}")) == []


def test_a_proxy_that_does_not_wait_is_noted_where_tokens_are_asked_for(tmp_path: Path) -> None:
    file = nginx(tmp_path, "server { location / { proxy_pass http://a; } location /static { proxy_pass http://b; } }")
    [text] = found(file, "note")
    assert "location / does not wait" in text


def test_addresses_from_a_header_are_noted(tmp_path: Path) -> None:
    file = nginx(tmp_path, "set_real_ip_from 10.0.0.0/8; set_real_ip_from 10.1.0.0/16; real_ip_header X-Forwarded-For;")
    [text] = found(file, "note")
    assert "set_real_ip_from" in text


@pytest.mark.parametrize("text", ["", "http {", "events {}", "}", "http { include /nowhere/at/all.conf; }", "\0"])
def test_whatever_the_file_holds_it_is_told_and_never_raised(tmp_path: Path, text: str) -> None:
    file = tmp_path / "nginx.conf"
    file.write_text(text)
    assert any(finding.state == "bad" for finding in examine(file))


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
    result = run("doctor", "--nginx", str(nginx(tmp_path, SERVER % "")), "--json")
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
