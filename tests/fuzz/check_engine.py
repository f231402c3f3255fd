"""The engine for half a minute, in children of its own: it finds nothing in pinban, and every planted fault.

Apart from `make test`: the same seed tries the same inputs each time. `make test-fuzz` runs it.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab.process import ROOT

#: Inputs for each target: a few seconds each.
RUNS = {"datagram": 15_000, "events": 4_000, "settings": 1_000, "patterns": 200}

#: Inputs within which every planted fault must be found.
ENOUGH = 20_000

PLANTED = [
    ("datagram", "misreads"),
    ("datagram", "overcounts"),
    ("events", "raises"),
    ("events", "exempts-nobody"),
    ("settings", "raises"),
]


def fuzz(target: str, runs: int, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    arguments = [target, "--runs", str(runs), "--seed", "1", "--artifacts", str(place), *words]
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", *arguments],
        cwd=ROOT, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip


@pytest.mark.parametrize("target", RUNS)
def test_nothing_hostile_breaks_a_promise(target: str, tmp_path: Path) -> None:
    done = fuzz(target, RUNS[target], tmp_path)
    assert done.returncode == 0, done.stderr[-3_000:]
    [runs] = re.findall(r"Done (\d+) runs", done.stderr)
    assert int(runs) >= RUNS[target]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("target", "fault"), PLANTED)
def test_a_planted_fault_is_found_and_its_input_kept(target: str, fault: str, tmp_path: Path) -> None:
    done = fuzz(target, ENOUGH, tmp_path, "--plant", fault)
    assert done.returncode != 0
    assert "Uncaught Python exception" in done.stdout + done.stderr
    assert len(list(tmp_path.glob("crash-*"))) == 1


def test_every_planted_fault_is_tried() -> None:
    assert set(importlib.import_module("tests.fuzz.planted").PLANTED) == set(PLANTED)
