"""Fuzzing for seconds, in children of their own: it finds nothing in pinban, and every planted fault."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.fuzz import datagram, events, inputs, texts
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

TARGETS = {
    "datagram": datagram.Target,
    "events": events.Target,
    "settings": texts.SettingsTarget,
    "patterns": texts.PatternsTarget,
}


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


@pytest.mark.parametrize("target", TARGETS)
def test_what_once_broke_a_promise_and_the_kept_corpus_break_none(
    target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tried = TARGETS[target]()
    some = [*inputs.regressions(target), *inputs.kept(target)]
    assert some
    for data in some:
        tried.check(data)


def test_every_planted_fault_is_tried() -> None:
    assert set(importlib.import_module("tests.fuzz.planted").PLANTED) == set(PLANTED)
