"""A random run of a minute with a new seed, and the parts of a run."""

from __future__ import annotations

import pytest

from tests.chaos.run import run
from tests.chaos.schedule import KINDS, draw

SEED, SECONDS = 4, 60.0


def test_all_counts_add_up_after_a_minute_of_random_faults() -> None:
    found = run(SEED, SECONDS)
    assert found["counted"] > 1_000
    assert found["bans"] > 10


def test_a_seed_is_a_schedule() -> None:
    assert draw(1, 600) == draw(1, 600)
    assert draw(1, 600) != draw(2, 600)


@pytest.mark.parametrize("seed", range(20))
def test_every_kind_of_fault_is_drawn_and_over_before_the_end(seed: int) -> None:
    schedule = draw(seed, SECONDS)
    assert {fault.kind for fault in schedule} == KINDS.keys()
    assert max(fault.at_s + fault.lasts_s for fault in schedule) < SECONDS
