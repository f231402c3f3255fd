"""The picture of a replay: a file of the asked kind, the same for the same numbers, that says what it shows."""

from __future__ import annotations

import struct
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from rich.console import Console

from pinban.replay.count import Limits, Outcome
from pinban.replay.plot import draw, short
from pinban.replay.run import run_replay
from shared.errors import PinbanError
from shared.settings.schema import Settings

NOW = Limits(5, 300_000)


def outcome(maxretry: int, findtime_ms: int, addresses: int, innocent: int) -> Outcome:
    return Outcome(Limits(maxretry, findtime_ms), addresses, addresses, 1, 0, innocent)


GRID = [outcome(m, f, 12_345 // m, 7 - m if m < 7 else 0) for f in (60_000, 300_000) for m in (3, 5, 8)]


def texts(path: Path) -> list[str]:
    root = ET.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")]


def test_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    path = tmp_path / "out.svg"
    draw(path, GRID, NOW, "75,477 wrong PINs by 3,735 addresses")
    said = texts(path)
    assert {
        "Who would have been banned?", "75,477 wrong PINs by 3,735 addresses", "findtime 1m", "findtime 5m",
        "addresses banned", "likely innocent alone", "maxretry", "banned but likely innocent: joined too",
        "banned, all others", "limits in force now",
    } <= set(said)  # fmt: skip
    for number in ("4115", "2469", "1543"):  # on the bars of both findtimes
        assert said.count(number) == 2
    assert said.count("maxretry") == 2


def test_limits_in_force_that_were_not_tried_are_not_in_the_legend(tmp_path: Path) -> None:
    draw(tmp_path / "out.svg", GRID, Limits(50, 1), "")
    assert "limits in force now" not in texts(tmp_path / "out.svg")


@pytest.mark.parametrize("name", ["out.svg", "out.PNG"])
def test_the_same_numbers_make_the_same_file(tmp_path: Path, name: str) -> None:
    draw(tmp_path / name, GRID, NOW, "about")
    first = (tmp_path / name).read_bytes()
    draw(tmp_path / name, GRID, NOW, "about")
    assert (tmp_path / name).read_bytes() == first
    assert b"matplotlib" not in first.split(b"<defs>")[0].lower()


def test_a_png_is_one_and_large_enough_to_read(tmp_path: Path) -> None:
    draw(tmp_path / "out.png", GRID, NOW, "about")
    data = (tmp_path / "out.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    assert width >= 900
    assert height >= 600


@pytest.mark.parametrize("grid", [[outcome(5, 300_000, 0, 0)], [outcome(m, 1_000, 10**7, 10**6) for m in range(1, 9)]])
def test_nobody_banned_and_millions_banned_can_be_drawn(tmp_path: Path, grid: list[Outcome]) -> None:
    draw(tmp_path / "out.svg", grid, NOW, "about")
    assert short(grid[0].addresses) in texts(tmp_path / "out.svg")


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (9_999, "9999"), (10_000, "10k"), (10_500, "10.5k"), (99_949, "99.9k"), (99_950, "100k"),
        (123_456, "123k"), (999_499, "999k"), (999_500, "1.0M"), (1_234_567, "1.2M"), (123_456_789, "123.5M"),
    ],
)  # fmt: skip
def test_a_number_fits_above_its_bar(number: int, text: str) -> None:
    assert short(number) == text


def attempt(tmp_path: Path, plot: str) -> str:
    log = tmp_path / "log"
    log.touch()
    with pytest.raises(PinbanError) as caught:
        run_replay([str(log)], None, None, None, plot, True, Settings(), Console(quiet=True))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_picture_that_cannot_be_drawn_is_one_line(tmp_path: Path) -> None:
    assert ".svg or .png" in attempt(tmp_path, "out.pdf")
    assert "does not exist; make it first" in attempt(tmp_path, str(tmp_path / "nowhere" / "out.svg"))
    (tmp_path / "taken.svg").mkdir()
    assert "cannot be written" in attempt(tmp_path, str(tmp_path / "taken.svg"))


def test_without_matplotlib_one_line_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "pinban.replay.plot")
    assert "pip install matplotlib" in attempt(tmp_path, "out.svg")
