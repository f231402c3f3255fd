"""Every line of the corpus means what it says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receiver.lines.classify import RULES, Class, Classifier
from shared.settings.schema import Receiver, Settings
from tests.lab.process import ROOT

CASES: list[dict[str, Any]] = [
    json.loads(line) for line in (ROOT / "tests" / "corpus" / "lines.jsonl").read_text(encoding="utf-8").splitlines()
]

#: What arrives in each case.
KNOWN = [bytes.fromhex(case["hex"]) if "hex" in case else case["line"].encode() for case in CASES]


@pytest.mark.parametrize(
    ("case", "datagram"),
    list(zip(CASES, KNOWN, strict=True)),
    ids=[f"{case['class']}: {case['why']}" for case in CASES],
)
def test_a_line_means_what_the_corpus_says(case: dict[str, Any], datagram: bytes) -> None:
    found = Classifier(Receiver()).classify(datagram)
    assert found.meaning == case["class"]
    assert found.network == case.get("address")
    if "alias" in case:
        assert found.alias == case["alias"]


def test_the_corpus_has_every_class() -> None:
    assert {case["class"] for case in CASES} == {str(each) for each in Class}


def test_failures_have_a_rule_and_nothing_else_has() -> None:
    assert {str(each): rule for each, rule in RULES.items()} == {
        "wrong_pin": "pin",
        "pin_prompt": "prompt",
        "unknown_alias": "scan",
        "registration": "registration",
    }
    assert Settings().rules["prompt"].simulate
