"""Text that others wrote, into Redis or into a log, commands nobody's terminal, whatever command shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result

from pinban.cli import main
from receiver.mail.messages import TOLD, message
from shared.addresses import Network
from shared.ledger.changes import Ledger, NewBan
from shared.settings.schema import Mail
from shared.store.store import Store
from tests.lab.redis_server import RedisServer
from tests.redis.conftest import KEYS

#: Clipboard (OSC 52), screen, concealed text, a C1 control, DEL, direction, markup of rich, a line of its own.
EVIL = "a\x1b]52;c;eA==\x07\x1b[2J\x1b[8m\x9b31m\x7f\u202e\u2066[red]b[/red][link=http://e.example]c[/link]\r\n! d"


Run = Callable[..., Result]


@pytest.fixture
def run(server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`pinban` as on a terminal, so that click filters nothing; our own colours are off."""
    (tmp_path / "pinban.toml").write_text(f'[redis]\nurl = "{server.url}"\n')
    monkeypatch.setattr("click.termui.style", lambda text, **_: text)
    monkeypatch.setattr("click.style", lambda text, **_: text)
    monkeypatch.setattr("pinban.doctor.examination._HEARTBEAT_S", 0.1)
    monkeypatch.setattr("pinban.doctor.examination.NGINX", tmp_path / "none")
    monkeypatch.setattr("pinban.commands.live._turns", lambda _: iter([0]))
    monkeypatch.setattr("shared.ledger.history.History.last", lambda _: "0-0")
    return lambda *words: CliRunner().invoke(main, ["-c", str(tmp_path / "pinban.toml"), *words], color=True)


def shown(result: Result, code: int = 0) -> str:
    assert result.exit_code == code, (result.output, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    raw = {c for c in result.stdout + result.stderr if not c.isprintable()} - {"\n"}
    assert raw == set()
    return result.stdout


@pytest.fixture
def hostile(client: redis.Redis, ledger: Ledger) -> None:
    """EVIL in every place of Redis that commands read."""
    now_ms = Store(client).now_ms()
    evidence = json.dumps([{"id": EVIL, "rp": EVIL, "alias": EVIL + "\ud800", "at": EVIL}])
    ledger.ban(NewBan(Network("203.0.113.1"), 60_000, EVIL, evidence, EVIL))
    ledger.ban(NewBan(Network("203.0.113.2"), 60_000, EVIL, json.dumps({"why": EVIL}), EVIL))
    ledger.ban(NewBan(Network("203.0.113.3"), 60_000, "pin", evidence, EVIL, simulate=True))
    ledger.heat(EVIL, 60_000, 15, 10, EVIL)
    for event in ("doubt", "allow", EVIL):
        facts = dict.fromkeys(("sender", "most", "network", "why", "room", EVIL), EVIL)
        client.xadd(KEYS.history, {"event": event, **facts})  # type: ignore[dict-item]
    client.zadd(KEYS.bans, {EVIL: now_ms + 60_000})
    client.hset(KEYS.allow, mapping={EVIL: "{}", "203.0.113.9": json.dumps({"note": EVIL, "until": 0})})
    client.set(KEYS.epoch, EVIL)
    client.set(f"pinban:count:{{{EVIL}}}:pin", 4, px=60_000)
    client.zadd(KEYS.rooms, {EVIL: now_ms + 60_000})
    client.zadd(KEYS.room_failures(EVIL), {"id": now_ms})
    client.zadd(KEYS.doubted, {EVIL: now_ms + 60_000})
    names = ("trouble", "probe_trouble", "backend", "backend_why", "version", "epoch", "instance", "drops", "bans",
             "queued", "applied_rev", EVIL)  # fmt: skip
    for name, kind in (("rp1", "enforcer"), ("rx1", "receiver"), ("x\x1b[2J\u202e\n! all is well", EVIL)):
        fields = dict.fromkeys(names, EVIL) | {"kind": kind, "seen": now_ms, "probes_sent": 0}
        client.hset(KEYS.node(name), mapping=fields)  # type: ignore[arg-type]
        client.sadd(KEYS.nodes, name)
    path = {"instance": EVIL, "last": 1, "window": "1", "seen": now_ms, "lag": 1}
    client.hset(KEYS.probes, f"{EVIL} rp1", json.dumps(path))


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("words", "code"),
    [(["status"], 1), (["bans"], 0), (["counters"], 0), (["history"], 0), (["watch"], 0), (["top"], 0), (["allow"], 0),
     (["doctor"], 1)],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_no_command_passes_on_what_others_wrote_into_redis(run: Run, words: list[str], code: int) -> None:
    assert r"\x1b]52;c;eA==" in shown(run(*words), code)
    for line in shown(run(*words, "--json"), code).splitlines() if words == ["watch"] else ():
        json.loads(line)
    if words != ["watch"]:
        json.loads(shown(run(*words, "--json"), code))


@pytest.mark.usefixtures("hostile")
def test_markup_of_others_is_text(run: Run) -> None:
    client_text = "[red]b[/red][link=http://e.example]c[/link]"
    for words in ("history", "allow", "counters"):
        assert client_text in shown(run(words)).replace("\n", ""), words


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize("words", [["unban", "203.0.113.1"], ["trust", "local"], ["ban", "203.0.113.4", "--why", EVIL]])
def test_a_change_tells_of_it_in_plain_text(run: Run, words: list[str]) -> None:
    shown(run(*words))


def lines() -> bytes:
    """A log in each format that pinban reads, and lines that it does not."""
    quoted = "".join(f"%{byte:02x}" for byte in EVIL.encode())
    path = f"/api/client/v2/conferences/{quoted}/request_token"
    v1 = {"v": 1, "id": EVIL, "t": "1795356738.348", "ip": "203.0.113.7", "m": "POST", "k": "conference", "a": EVIL}
    refused = {"s": "403", "us": "403", "l": "45", "p": "1"}
    stamp = "[22/Nov/2026:14:12:18 +0000]"
    combined = f'203.0.113.7 - {EVIL!a} {stamp} "POST {path} HTTP/1.1" 403 45 "-" "-"'
    pexapp = f'203.0.113.7 - - {stamp}  "POST {path} HTTP/1.1" 403 45 "-" "-" "-" "403" "0.1"'
    each = [json.dumps({**v1, **refused}), combined, pexapp, f'203.0.113.7 - - {stamp} "{EVIL[:40]}" 200', EVIL]
    return "\n".join(each * 6).encode() + b"\xff\x1b[2J\n"


@pytest.mark.parametrize("words", [["explain"], ["replay"]])
def test_no_command_passes_on_what_clients_wrote_into_a_log(run: Run, tmp_path: Path, words: list[str]) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(lines())
    assert r"\x1b]52;c;" in shown(run(*words, str(log)))
    assert "\\u001b" in shown(run(*words, "--json", str(log)))


def test_settings_of_fail2ban_are_printed_plainly(run: Run, tmp_path: Path) -> None:
    jail = tmp_path / "jail.local"
    jail.write_text(f"[door]\nenabled = true\nfilter = door\nmaxretry = {EVIL[:30]!a}\n#\x1b\n[\u202eb\x1b]\nx = 1\n")
    (tmp_path / "door.conf").write_text("[Definition]\nfailregex = ^\u202e\x1b[2J<HOST>\n")
    result = run("import-fail2ban", str(jail), str(tmp_path / "door.conf"))
    shown(result, result.exit_code)


@pytest.mark.parametrize("words", [["ban", EVIL], ["status", "--" + EVIL], [EVIL], ["-c", EVIL, "status"]])
def test_an_error_repeats_no_control_character(run: Run, words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code != 0
    shown(result, result.exit_code)


@pytest.mark.parametrize("event", TOLD)
def test_a_mail_has_no_control_character(event: str) -> None:
    evidence = json.dumps([dict.fromkeys(("id", "rp", "alias", "at"), EVIL)])
    names = ("room", "failures", "addresses", "by", "sender", "most", "network", "until", "rule")
    entry: dict[str, str] = {"event": event, **dict.fromkeys(names, EVIL), "evidence": evidence}
    mail: Any = message(Mail(to=("noc@example.org",)), [entry], "rx1")
    text = f"{mail['Subject']}\n{mail.get_content()}"
    assert {c for c in text if not c.isprintable()} == {"\n"}
    assert r"\x1b]52;c;" in text
