"""Replaying old logs: the bans of all limits against an independent count, and the command as people use it."""

from __future__ import annotations

import gzip
import json
import random
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pinban.cli import main
from pinban.replay.count import Event, Limits, replay
from receiver.lines.times import line_time
from shared.addresses import Network

A, B = Network("203.0.113.7"), Network("203.0.113.8")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def pexapp(second: float, address: str = A, room: str = "meet", status: int = 403, size: int = 56) -> str:
    written = datetime.fromtimestamp(NOON.timestamp() + second, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
    request = f"POST /api/client/v2/conferences/{room}/request_token HTTP/1.1"
    return f'{address} - - [{written}]  "{request}" {status} {size} "-" "-" "" "{status}" "0.1"'


def brute_force(times: list[int], limits: Limits, bantime_ms: int) -> tuple[int, int]:
    """Bans, and failures during a ban, told one failure after the other."""
    window: list[int] = []
    bans = stopped = 0
    banned_until = -1
    for at in sorted(times):
        if at < banned_until:
            stopped += 1
            continue
        window = [each for each in window if each > at - limits.findtime_ms] + [at]
        if len(window) >= limits.maxretry:
            bans, banned_until, window = bans + 1, at + bantime_ms, []
    return bans, stopped


@given(st.lists(st.integers(0, 200), max_size=60), st.integers(1, 6), st.integers(1, 60), st.integers(1, 80))
def test_the_bans_are_those_of_a_count_one_by_one(times: list[int], maxretry: int, findtime: int, bantime: int) -> None:
    limits = Limits(maxretry, findtime)
    [outcome] = replay([Event(at, A) for at in times], [limits], bantime).outcomes
    assert (outcome.bans, outcome.stopped) == brute_force(times, limits, bantime)


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from([A, B]), st.booleans()), max_size=40), st.randoms())
def test_the_order_of_lines_does_not_matter(facts: list[tuple[int, Network, bool]], rnd: random.Random) -> None:
    events = [Event(at, network, joined=joined) for at, network, joined in facts]
    shuffled = events[:]
    rnd.shuffle(shuffled)
    grid = [Limits(3, 50)]
    assert replay(events, grid, 30).outcomes == replay(shuffled, grid, 30).outcomes


def test_the_same_request_twice_is_one_failure() -> None:
    replayed = replay([Event(at, A, "meet", "same") for at in range(5)], [Limits(2, 100)], 10)
    assert (replayed.failures, replayed.repeated, replayed.outcomes[0].bans) == (1, 4, 0)


def run(*words: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, ["replay", *words])
    assert result.exit_code == exit_code, result.output
    return result.output


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A guesser, and an office of 30 that joins on time, three of them with one wrong PIN."""
    lines = [pexapp(second * 10, B, f"room{second % 3}") for second in range(20)]
    for person in range(30):
        lines.append(pexapp(person, size=73))
        lines += [pexapp(person + 3)] if person < 3 else []
        lines.append(pexapp(person + 6, status=200, size=900))
    path = tmp_path / "access.log"
    path.write_text("\n".join(lines) + "\n")
    return path


def grid(output: str) -> dict[tuple[int, int], dict[str, int]]:
    return {(row["maxretry"], row["findtime_ms"]): row for row in json.loads(output)["grid"]}


def test_an_office_that_joins_on_time_is_not_banned_and_a_guesser_is(log: Path) -> None:
    found = grid(run(str(log), "--maxretry", "3,5", "--findtime", "5m", "--bantime", "5m", "--json"))
    assert (found[5, 300_000]["addresses"], found[5, 300_000]["likely_innocent"]) == (1, 0)
    assert (found[3, 300_000]["addresses"], found[3, 300_000]["likely_innocent"]) == (2, 1)
    assert found[5, 300_000]["rooms"] == 3


def test_gzip_and_several_files_are_read_as_one_log(log: Path, tmp_path: Path) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    (tmp_path / "access.log.1").write_bytes(b"".join(lines[:15]))
    (tmp_path / "late").write_bytes(gzip.compress(b"".join(lines[15:])))
    options = ("--maxretry", "3,5", "--findtime", "5m", "--json")
    together = run(str(tmp_path / "late"), str(tmp_path / "access.log.1"), *options)
    assert grid(together) == grid(run(str(log), *options))


def test_a_truncated_gzip_and_garbage_are_read_as_far_as_they_go(log: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(log.read_bytes())[:-40])
    assert "wrong PINs" in run(str(broken))
    garbage = tmp_path / "garbage"
    garbage.write_bytes(bytes(range(256)) * 100)
    assert "malformed" in run(str(garbage))


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    output = run(str(tmp_path / "nowhere"), exit_code=1)
    assert output.startswith("Error: ")
    assert output.count("\n") == 1


@pytest.mark.parametrize(("option", "value"), [("--maxretry", "0"), ("--findtime", "soon"), ("--plot", "x.doc")])
def test_what_cannot_be_is_one_line(log: Path, option: str, value: str) -> None:
    output = run(str(log), option, value, exit_code=1)
    assert value in output
    assert output.count("\n") == 1


def test_the_plot_says_what_it_shows(log: Path, tmp_path: Path) -> None:
    drawn, again, picture = tmp_path / "a.svg", tmp_path / "b.svg", tmp_path / "a.png"
    for path in (drawn, again, picture):
        run(str(log), "--plot", str(path))
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert drawn.read_bytes() == again.read_bytes()
    assert ET.parse(drawn).getroot().tag.endswith("svg")
    assert "likely innocent" in drawn.read_text()


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (pexapp(0).encode(), NOON.timestamp()),
        (b'<190>Nov 22 14:12:18 pinban: {"v":1,"t":"1795356738.348"}', 1795356738.348),
        (b"<190>1 2026-11-22T12:00:00.5Z h a - - - x", NOON.timestamp() + 0.5),
        (b"<190>1 2026-11-22T13:00:00+01:00 h a - - - x", NOON.timestamp()),
        (pexapp(0).replace(" - - ", " - a [01/Jan/2020:00:00:00 +0000] ").encode(), NOON.timestamp()),
        (pexapp(0).replace('"-" "-"', '"-" "[01/Jan/2020:00:00:00 +0000]"').encode(), NOON.timestamp()),
        (b"<190>Nov 22 14:12:18 h a: no year", None),
        (b"", None),
    ],
)
def test_a_line_has_the_time_that_nginx_gave_it(line: bytes, seconds: float | None) -> None:
    assert line_time(line) == seconds


@given(st.binary(max_size=300))
def test_no_bytes_make_reading_the_time_fail(line: bytes) -> None:
    line_time(line)
