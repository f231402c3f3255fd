"""Every line of both corpora means what it says: the one handed to us beside the repository, and our own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from receiver.lines.classify import RULES, Class, Classifier
from shared.settings.schema import Receiver, Settings
from tests.lab.process import ROOT

CORPORA = (ROOT.parent / "shared" / "corpus" / "lines.jsonl", ROOT / "tests" / "corpus" / "lines.jsonl")


def cases(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []  # test_both_corpora_are_there says so
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_both_corpora_are_there() -> None:
    assert [len(cases(path)) > 40 for path in CORPORA] == [True, True]


@pytest.mark.parametrize(
    "case", [case for path in CORPORA for case in cases(path)], ids=lambda case: f"{case['class']}: {case['why']}"
)
def test_a_line_means_what_the_corpus_says(case: dict[str, Any]) -> None:
    datagram = bytes.fromhex(case["hex"]) if "hex" in case else case["line"].encode()
    found = Classifier(Receiver()).classify(datagram)
    assert found.meaning == case["class"]
    assert found.network == case.get("address")
    if "alias" in case:
        assert found.alias == case["alias"]


def test_our_corpus_has_every_class() -> None:
    assert {case["class"] for case in cases(CORPORA[1])} == {str(each) for each in Class}


def test_failures_have_a_rule_and_nothing_else_has() -> None:
    assert {str(each): rule for each, rule in RULES.items()} == {
        "wrong_pin": "pin",
        "pin_prompt": "prompt",
        "unknown_alias": "scan",
        "registration": "registration",
    }
    assert Settings().rules["prompt"].simulate
