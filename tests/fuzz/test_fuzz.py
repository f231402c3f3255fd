"""What fuzzing once found, and the inputs that it kept, break no promise. The engine itself is in check_engine.py."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.fuzz import datagram, events, inputs, texts

TARGETS = {
    "datagram": datagram.Target,
    "events": events.Target,
    "settings": texts.SettingsTarget,
    "patterns": texts.PatternsTarget,
}


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
