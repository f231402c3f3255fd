"""Every line of tests/corpus means what it says; its README.md says what a case is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from receiver.lines.classify import RULES, Class
from receiver.lines.rulebook import Rulebook
from shared.settings.schema import Settings
from tests.lab.process import ROOT

LINES = ROOT / "tests" / "corpus" / "lines.jsonl"


def cases() -> list[dict[str, Any]]:
    return [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()]


def datagram_of(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["hex"]) if "hex" in case else str(case["line"]).encode()


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case['class']}: {case['why']}")
def test_a_line_means_what_the_corpus_says(case: dict[str, Any]) -> None:
    reading = Rulebook(Settings()).read(datagram_of(case))
    found = reading.line
    assert found.meaning == case["class"]
    assert found.network == case.get("address")
    if "alias" in case:
        assert found.alias == case["alias"]
    if "rule" in case:
        assert reading.rule == case["rule"]


def test_the_corpus_has_every_class() -> None:
    assert {case["class"] for case in cases()} == {str(each) for each in Class}


def test_no_case_is_there_twice() -> None:
    for field in (datagram_of, lambda case: case["why"]):
        values = [field(case) for case in cases()]
        assert [value for value in values if values.count(value) > 1] == []


def test_failures_have_a_rule_and_nothing_else_has() -> None:
    assert {str(each): rule for each, rule in RULES.items()} == {
        "wrong_pin": "pin",
        "pin_prompt": "prompt",
        "unknown_alias": "scan",
        "registration": "registration",
    }
    assert Settings().rules["prompt"].simulate
