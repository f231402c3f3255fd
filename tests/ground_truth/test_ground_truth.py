"""The receiver understands thousands of hostile requests as the node did.

Replay a failure with its seed: PINBAN_TEST_SEED=7; more requests: python -m tests.ground_truth.
"""

from __future__ import annotations

import os
import secrets

from tests.ground_truth.comparison import Outcome
from tests.ground_truth.trial import ADVISED, ONE_PIN, PLAIN, rounds

#: How many differences are printed in full.
TOLD = 5


def trial(requests: int, server: str) -> Outcome:
    """One round with a new seed, or the given one."""
    seed = int(os.environ.get("PINBAN_TEST_SEED") or secrets.randbelow(1_000_000))
    (outcome,) = rounds(seed, requests, server=server)
    told = "\n".join(map(str, outcome.differences[:TOLD]))
    assert not outcome.differences, f"{len(outcome.differences)}, PINBAN_TEST_SEED={seed}:\n{told}"
    return outcome


def test_five_thousand_hostile_requests_mean_to_the_receiver_what_they_meant_to_the_node() -> None:
    outcome = trial(5_000, ADVISED)
    assert outcome.logged > 3_000
    assert sum(outcome.verdicts.values()) > 2_000
    for verdict in ("wrong", "prompt", "joined", "unknown", "registration", "other"):
        assert outcome.verdicts[verdict] > 50, verdict
    for lines in (outcome.pinban, outcome.pexapp):
        assert lines["wrong_pin"] > 500
    assert outcome.too_long < 50


def test_a_guess_without_waiting_for_the_answer_counts_even_where_nginx_does_not_wait_either() -> None:
    outcome = trial(1_000, PLAIN)
    assert outcome.hung_up["wrong_pin"] > 10


def test_one_pin_header_for_the_node_leaves_nothing_to_hide_behind() -> None:
    """No request then has two PINs, so none of the exceptions about them is needed."""
    outcome = trial(2_000, ONE_PIN)
    assert outcome.two_pins == 0
    assert outcome.verdicts["wrong"] > 100
