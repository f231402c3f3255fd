"""history, watch, top and check: what an operator sees of a deployment, and of settings before they are used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import redis

from shared.ledger.changes import Ledger, NewBan
from shared.ledger.history import History, sentence
from shared.settings.schema import Settings
from shared.store.store import Store
from tests.lab.process import wait_until
from tests.lab.views import program
from tests.redis.conftest import A, B, Run, as_json

EVIDENCE = json.dumps([{"id": "i", "rp": "10.0.0.11", "alias": "meet.alice", "at": "1795356738348"}])


def test_history_tells_who_and_why_the_newest_last(run: Run, ledger: Ledger) -> None:
    ledger.ban(NewBan(A, 300_000, "pin", EVIDENCE, "rx1"))
    ledger.unban(A, "they called", "root@noc")
    ledger.heat("meet.bob", 60_000, 20, 12, "rx2")
    shown = run("history").output
    assert "banned 203.0.113.7 for 5m, rule pin; room meet.alice, by rx1" in shown
    assert "unbanned 203.0.113.7 (they called), by root@noc" in shown
    assert "room meet.bob is under attack: 20 wrong PINs from 12 networks, by rx2" in shown
    assert shown.index("banned 203") < shown.index("unbanned 203") < shown.index("meet.bob is")
    rows = as_json(run("history", "--json", "-n", "1"))
    assert [row["event"] for row in rows] == ["hot"]


def test_history_of_one_address_is_found_behind_thousands_of_others(run: Run, ledger: Ledger) -> None:
    ledger.ban(NewBan(B, 300_000, "pin", "[]", "rx1"))
    for _ in range(1_100):
        ledger.unban(A, "", "x")
    [row] = as_json(run("history", "2001:db8:1:2::99", "--json"))
    assert (row["network"], row["rule"], row["bantime_ms"]) == (B, "pin", 300_000)


def test_an_empty_history_says_so(run: Run) -> None:
    assert run("history").output == "nothing has happened yet\n"


@pytest.mark.parametrize(
    "fields", [{"event": "new/1", "x": "y"}, {"a": "b"}, {"event": "unban", "network": "n", "why": ""}]
)
def test_an_entry_of_a_later_version_is_shown_as_it_is(
    settings: Settings, client: redis.Redis, fields: dict[str, str]
) -> None:
    client.xadd("{pinban}:history", fields)  # type: ignore[arg-type]
    [row] = History(Store(client)).newest(5)
    assert all(value in sentence(row) for value in fields.values() if value not in ("unban", ""))


def test_watch_tells_what_happens_and_what_goes_wrong_until_interrupted(
    settings: Settings,
    ledger: Ledger,
    tmp_path: Path,
) -> None:
    config = tmp_path / "pinban.toml"
    config.write_text(f'[redis]\nurl = "{settings.redis.url}"\n')
    ledger.ban(NewBan(B, 300_000, "pin", "[]", "rx1"))
    log = tmp_path / "log"
    with log.open("w") as output:
        watch = subprocess.Popen(
            ["env", "--default-signal=INT", program("pinban"), "-c", str(config), "watch"],  # whatever we ignore
            stdout=output, stderr=output, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    try:
        wait_until(lambda: "no receiver is alive" in log.read_text(), "watch says what is wrong")
        ledger.ban(NewBan(A, 300_000, "pin", EVIDENCE, "rx1"))
        wait_until(lambda: "banned 203.0.113.7" in log.read_text(), "watch tells of the ban")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(10) == 0
    finally:
        watch.kill()
        watch.wait()
    assert str(B) not in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("environment", [{}, {"COLUMNS": "20"}, {"FORCE_COLOR": "1"}], ids=" ".join)
def test_top_tells_who_fails_most_and_which_rooms_are_tried(
    run: Run, client: redis.Redis, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and in whole lines, where there is no terminal."""
    for name in ("COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    client.set("pinban:count:{203.0.113.7}:pin", 3, ex=60)
    client.set("pinban:count:{203.0.113.8}:pin", 4, ex=60)
    client.zadd("{pinban}:rooms", {"meet.alice": 1, "meet.bob": 2, "gone": 3})
    client.zadd("pinban:room:{meet.alice}:failures", {"a": 1, "b": 2})
    client.pfadd("pinban:room:{meet.alice}:addresses", "203.0.113.7")
    client.zadd("pinban:room:{meet.bob}:failures", {"c": 1})
    found = as_json(run("top", "--json"))
    assert [row["network"] for row in found["counters"]] == ["203.0.113.8", "203.0.113.7"]
    assert found["rooms"] == [
        {"room": "meet.alice", "failures": 2, "addresses": 1, "hot": False},
        {"room": "meet.bob", "failures": 1, "addresses": 0, "hot": False},
    ]
    shown = run("top").output
    assert "4 of 5" in shown
    assert "meet.alice" in shown


def test_check_says_that_settings_are_good(run: Run) -> None:
    result = run("check")
    assert result.exit_code == 0
    assert "; rules: pin, prompt (simulated), scan, registration" in result.output


@pytest.mark.parametrize(
    "line",
    [
        "[rules.own]\nfailregex = '(a'", '[redis]\npassword_file = "/nowhere"', '[mail]\npassword_file = "/nowhere"',
        "[rules.pin]\nmaxretry = 0", "=",
    ],
)  # fmt: skip
def test_check_says_in_one_line_what_is_bad(tmp_path: Path, line: str) -> None:
    config = tmp_path / "pinban.toml"
    config.write_text(line)
    done = subprocess.run([program("pinban"), "-c", str(config), "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
