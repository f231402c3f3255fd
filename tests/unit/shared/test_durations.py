"""Lengths of time as people write them."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.durations import Milliseconds, parse_duration


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        ("5m", 300_000),
        ("90", 90_000),
        ("1d 12h", 129_600_000),
        ("1h30m", 5_400_000),
        ("5M", 300_000),
        (" 5 m ", 300_000),
        ("250ms", 250),
        ("1w", 604_800_000),
        ("5m30", 330_000),
        ("0", 0),
        (90, 90_000),
        (1.5, 1_500),
        (0, 0),
    ],
)
def test_a_length_of_time(written: object, ms: int) -> None:
    assert parse_duration(written) == ms


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "m", "5x", "5mm", "5m,", "-5m", "1.5h", "5 m x", "\u0665m", "inf"),
        *(-1, -0.1, True, None, [], float("inf"), float("nan"), 1e306, 10**400),
    ],
)
def test_what_is_no_length_of_time_is_a_value_error(written: object) -> None:
    with pytest.raises(ValueError, match="is no length of time"):
        parse_duration(written)


@given(st.text() | st.floats() | st.integers() | st.none())
def test_anything_is_a_length_of_time_or_a_value_error(written: object) -> None:
    with suppress(ValueError):
        assert parse_duration(written) >= 0


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0s"), (999, "999ms"), (1_000, "1s"), (90_000, "1m 30s"), (300_000, "5m"), (90_061_001, "1d 1h")],
)
def test_a_length_of_time_is_shown_in_its_two_largest_units(ms: int, text: str) -> None:
    assert str(Milliseconds(ms)) == text
    assert f"{Milliseconds(ms)}" == text


@given(st.integers(0, 10**12))
def test_what_is_shown_reads_back_without_the_smaller_units(ms: int) -> None:
    shown = parse_duration(str(Milliseconds(ms)))
    assert shown <= ms
    assert str(shown) == str(Milliseconds(ms))
