"""The command line itself: help of every command, wrong words in one line, what is loaded, what a terminal is shown."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pinban.cli import main
from pinban.commands import COMMANDS
from pinban.tables import local_time
from tests.lab.views import program

EVERY = [command for commands in COMMANDS.values() for command in commands]
NAMES = sorted(command.name or "" for command in EVERY)

#: A Redis that nobody runs: what goes as far as asking it fails in one line.
NOWHERE = "unix:///nowhere/redis.sock"

ESCAPE = "\x1b[2J"


def pinban(*words: str) -> Result:
    return CliRunner().invoke(main, words, env={"PINBAN_REDIS_URL": NOWHERE, "COLUMNS": "80"}, prog_name="pinban")


@pytest.mark.parametrize("name", ["", *NAMES])
def test_every_command_has_help_for_a_terminal_of_80_columns(name: str) -> None:
    result = pinban(*name.split(), "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: {f'pinban {name}'.strip()} [OPTIONS]")
    usage, *lines = result.output.splitlines()
    assert len(usage) <= 80
    assert [line for line in lines if len(line) > 80 or line.endswith("...")] == []


def test_the_help_names_every_command_and_exit_code() -> None:
    shown = pinban("--help").output
    assert sorted(main.commands) == NAMES
    for command in EVERY:
        assert re.search(rf"^  {command.name} +{re.escape(command.get_short_help_str(80))}$", shown, re.MULTILINE)
    assert [line.split()[0] for line in shown.partition("Exit codes:\n")[2].splitlines() if line[4].isdigit()] == [
        "0", "1", "2",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("statu", "Did you mean 'status'?"),
        ("--settings x status", "No such option '--settings'"),
        ("-c", "requires an argument"),
        ("status -c x", "-c FILE goes before the command"),
        ("status --jsn", "Did you mean '--json'?"),
        ("status x", "unexpected extra argument"),
        ("ban", "Missing argument 'ADDRESS'"),
        ("ban localhost", "write 203.0.113.7, 2001:db8::1"),
        ("ban 203.0.113.7 --for soon", "write 10m"),
        ("unban 203.0.113.7/24", "has host bits set"),
        ("allow --remove", "Name the ADDRESS"),
        ("allow --for 1h", "Name the ADDRESS"),
        ("allow 203.0.113.7 --remove --note x", "--remove takes neither"),
        ("trust rp1", "local"),
        ("counters --limit none", "--limit"),
        ("history nobody", "write 203.0.113.7"),
        ("doctor --nginx /nowhere", "'/nowhere' does not exist"),
        ("acl", "Missing argument 'NODE...'"),
        ("explain /nowhere", "No such file or directory"),
        ("replay", "Missing argument 'FILE...'"),
        ("import-fail2ban /nowhere", "'/nowhere' does not exist"),
    ],
)
def test_wrong_words_are_one_line_that_names_the_help(words: str, said: str) -> None:
    result = pinban(*words.split())
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("Error: ")
    assert "See pinban " in result.stderr
    assert (result.stderr.count("\n"), result.stdout) == (1, "")


@pytest.mark.parametrize(
    "words",
    ["status", "bans", "counters", "history", "watch", "top", "ban 203.0.113.7", "unban 203.0.113.7", "allow",
     "allow 203.0.113.7", "trust local"],
)  # fmt: skip
def test_a_redis_that_is_away_is_one_line(words: str) -> None:
    result = pinban(*words.split())
    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: Redis at {NOWHERE}: cannot be reached")
    assert (result.stderr.count("\n"), result.stdout) == (1, "")


def test_without_a_command_the_help_is_shown_and_nothing_is_done() -> None:
    result = pinban()
    assert result.exit_code == 2
    assert "Exit codes:" in result.output


def test_check_needs_no_file(tmp_path: Path) -> None:
    assert pinban("check").output.startswith("the settings are good (")
    config = tmp_path / "own.toml"
    config.write_text("[rules.pin]\nenabled = false\n", encoding="utf-8")
    shown = pinban("-c", str(config), "check").output
    assert shown == f"the settings are good ({config}); rules: prompt (simulated), scan, registration\n"


def test_check_names_settings_that_contradict_each_other(tmp_path: Path) -> None:
    config = tmp_path / "own.toml"
    text = "receiver.wrong_pin_bytes = [45, 73, 59]\nrooms.hot_maxretry = 5\n"
    config.write_text(text, encoding="utf-8")
    result = pinban("-c", str(config), "check")
    assert result.exit_code == 0
    assert result.output.splitlines()[1:] == [
        "note: receiver.wrong_pin_bytes and receiver.prompt_bytes both have 73, and it means a wrong PIN",
        "note: receiver.wrong_pin_bytes and receiver.refused_otherwise_bytes both have 59, and it means a wrong PIN",
        "note: rooms.hot_maxretry = 5 is not below rules.pin.maxretry = 5: a hot room changes nothing",
    ]
    config.write_text(f"{text}rooms.failures = 0\n", encoding="utf-8")
    assert "hot" not in pinban("-c", str(config), "check").output


#: What takes long to load, each with words that need it.
HEAVY = {"re2": ["explain", "/dev/null"], "crossplane": ["doctor", "--nginx", "/dev/null"]}


def loaded(*words: str) -> set[str]:
    """The modules that a `pinban` of its own loads."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", program("pinban"), *words],
        capture_output=True, text=True, check=False, env={"PINBAN_REDIS_URL": NOWHERE},
    )  # fmt: skip
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_an_operators_command_loads_no_engine_parser_or_plot() -> None:
    """They take longer than a command that a person or a probe runs again and again."""
    modules = loaded("status")
    assert "pinban.deployment" in modules
    assert modules & {*HEAVY, "matplotlib", "receiver.failregex", "pinban.replay", "pinban.doctor"} == set()


@pytest.mark.parametrize("module", HEAVY)
def test_what_needs_them_does_load_them(module: str) -> None:
    assert module in loaded(*HEAVY[module])


def test_what_a_client_named_his_room_commands_no_terminal() -> None:
    line = {"v": 1, "id": "i", "ip": "203.0.113.7", "m": "POST", "k": "conference", "a": f"a{ESCAPE}\nb\u202e"}
    log = json.dumps({**line, "s": "403", "us": "403", "l": "45", "p": "1"})
    shown = CliRunner().invoke(main, ["explain"], input=log)
    assert shown.exit_code == 0
    assert r"a\x1b[2j\x0ab\u202e" in shown.stdout
    as_json = CliRunner().invoke(main, ["explain", "--json"], input=log)
    assert json.loads(as_json.stdout)["alias"] == f"a{ESCAPE}\nb\u202e".lower()
    assert ESCAPE not in as_json.stdout


def test_a_failure_is_one_line_whatever_its_words(tmp_path: Path) -> None:
    config = tmp_path / f"a\n{ESCAPE}.toml"
    result = pinban("-c", str(config), "status")
    assert result.exit_code == 1
    assert "cannot be read (No such file or directory)" in result.stderr
    assert ESCAPE not in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_file_that_fails_while_it_is_read_is_one_line() -> None:
    result = pinban("explain", "/proc/self/mem")  # its first bytes are of no memory: proc(5)
    assert (result.exit_code, result.stderr) == (1, "Error: Input/output error\n")


@pytest.mark.parametrize("at_ms", [2**64 - 1, -(2**63)])
def test_a_time_that_no_calendar_has_is_a_question_mark(at_ms: int) -> None:
    assert local_time({"at_ms": at_ms}) == "?"
    assert local_time({"at_ms": 1_795_356_738_348}).startswith("2026-11-2")
