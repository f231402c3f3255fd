"""Redis' clock beside one that nobody sets."""

from __future__ import annotations

import pytest

from pinban.deployment.problems import notes
from shared.clock_steps import STEP_MS, Steps
from shared.nodes import Node


def test_the_first_look_tells_nothing() -> None:
    assert Steps().look(1_795_000_000_000, 5) == 0


@pytest.mark.parametrize("step", [-3_600_000, -STEP_MS - 1, STEP_MS + 1, 3_600_000])
def test_a_step_is_told_once_and_its_size(step: int) -> None:
    steps = Steps()
    steps.look(1_000_000, 0)
    assert steps.look(1_001_000 + step, 1_000) == step
    assert steps.look(1_002_000 + step, 2_000) == 0


def test_drift_however_long_is_no_step() -> None:
    steps = Steps()
    assert [steps.look(second * 1_001, second * 1_000) for second in range(20_000)] == [0] * 20_000


def test_status_tells_of_a_clock_that_is_wrong_and_of_one_that_was_set() -> None:
    fields = {"kind": "enforcer", "clock_skew_ms": "-61500", "clock_steps": "2"}
    told = notes([Node("rp1", 0, fields), Node("rp2", 0, {"clock_skew_ms": "4000"})])
    assert len(told) == 2
    assert "rp1: 2 times" in told[0]
    assert "rp1: its clock is -61.5 s from Redis'" in told[1]
