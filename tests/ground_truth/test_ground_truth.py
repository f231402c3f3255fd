"""The receiver understands thousands of hostile requests as the node did.

Replay a failure with its seed: PINBAN_TEST_SEED=7; more requests: python -m tests.ground_truth.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

import pytest

from tests.ground_truth.comparison import FORMATS, Outcome
from tests.ground_truth.fronts import ONE_PIN, PLAIN, WAITING, Front
from tests.ground_truth.trial import rounds

#: How many differences are printed in full.
TOLD = 5


def trial(requests: int, fronts: Sequence[Front]) -> Outcome:
    """One round with a new seed, or the given one."""
    seed = int(os.environ.get("PINBAN_TEST_SEED") or secrets.randbelow(1_000_000))
    (outcome,) = rounds(seed, requests, fronts=fronts)
    told = "\n".join(map(str, outcome.differences[:TOLD]))
    assert not outcome.differences, f"{len(outcome.differences)}, PINBAN_TEST_SEED={seed}:\n{told}"
    return outcome


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return trial(5_000, WAITING)


def test_five_thousand_hostile_requests_mean_to_the_receiver_what_they_meant_to_the_node(outcome: Outcome) -> None:
    assert outcome.logged > 3_000
    assert sum(outcome.verdicts.values()) > 2_000
    for verdict in ("wrong", "prompt", "joined", "unknown", "registration", "other"):
        assert outcome.verdicts[verdict] > 50, verdict
    assert outcome.verdicts["redirected"] + outcome.verdicts["full"] > 5
    for name in FORMATS:
        assert outcome.lines[name]["wrong_pin"] > 500, name
    assert outcome.too_long < 100


def test_wrong_pins_came_through_each_sort_of_nginx_configuration(outcome: Outcome) -> None:
    assert all(outcome.guesses[front.name] > 5 for front in WAITING), outcome.guesses


def test_no_stream_that_was_reset_before_a_node_was_asked_was_a_guess(outcome: Outcome) -> None:
    assert outcome.unasked > 5


def test_one_pin_header_for_the_node_leaves_nothing_to_hide_behind(outcome: Outcome) -> None:
    """No request then has two PINs, so none of the exceptions about them is needed."""
    assert outcome.two_pins[ONE_PIN.name] == 0
    assert sum(outcome.two_pins.values()) > 100


def test_a_guess_without_waiting_for_the_answer_counts_even_where_nginx_does_not_wait_either() -> None:
    outcome = trial(1_000, [PLAIN])
    assert outcome.hung_up["wrong_pin"] > 10
