"""Counting failures in old logs: every number is compared with one that is counted in a slow, simple way."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pinban.replay.count import Event, Limits, Outcome, likely_innocent, replay
from pinban.replay.run import grid_of
from shared.addresses import Network
from shared.durations import Milliseconds
from shared.errors import PinbanError
from shared.settings.schema import Rule

ADDRESSES = [Network(text) for text in ("203.0.113.7", "203.0.113.8", "2001:db8:1:2::/64")]
ROOMS = ["meet.alice", "meet.bob", ""]
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000

events = st.builds(
    Event,
    # Close together, or hours and days apart: windows, bans and the spans around them all begin and end somewhere.
    st.one_of(st.integers(0, 30), st.integers(0, 60).map(lambda n: n * HOUR // 2)),
    st.sampled_from(ADDRESSES),
    st.sampled_from(ROOMS),
    st.sampled_from(["", "", "", "a", "b", "c"]),
    st.booleans() | st.just(False),
)


def counted_slowly(happened: Sequence[Event], limits: Limits, bantime_ms: int) -> Outcome:
    """One event after the other, as a receiver with one window and a firewall would live through them."""
    bans: list[tuple[Network, int, int]] = []  # whom, its first failure, its last
    until: dict[Network, int] = {}
    window: dict[Network, list[int]] = {}
    stopped = 0
    failures: list[Event] = []
    for event in sorted(happened, key=lambda e: e.at_ms):
        if event.joined or (event.id and any((f.network, f.id) == (event.network, event.id) for f in failures)):
            continue
        failures.append(event)
        if event.at_ms < until.get(event.network, -1):
            stopped += 1
            continue
        kept = [at for at in window.get(event.network, []) if at > event.at_ms - limits.findtime_ms] + [event.at_ms]
        if len(kept) == limits.maxretry:
            bans.append((event.network, kept[0], event.at_ms))
            until[event.network] = event.at_ms + bantime_ms
            kept = []
        window[event.network] = kept
    banned = {network for network, _, _ in bans}
    innocent = set()
    for network, first, last in bans:
        near = range(first - HOUR, last + DAY + 1)
        joins = sum(e.joined for e in happened if e.network == network and e.at_ms in near)
        wrong = sum(e.network == network and e.at_ms in near for e in failures)
        if joins and wrong / joins <= 20:
            innocent.add(network)
    rooms = {e.room for e in failures if e.network in banned}
    return Outcome(limits, len(bans), len(banned), len(rooms), stopped, len(innocent))


@given(st.lists(events, max_size=60), st.integers(1, 6), st.integers(1, 40), st.integers(1, 40))
@example([Event(0, ADDRESSES[0]), Event(10, ADDRESSES[0])], 2, 10, 5)
@example([Event(0, ADDRESSES[0]), Event(10, ADDRESSES[0])], 2, 11, 5)
@example([Event(0, ADDRESSES[0]), Event(5, ADDRESSES[0]), Event(6, ADDRESSES[0])], 1, 10, 5)
def test_every_number_is_that_of_a_slow_count(
    happened: list[Event], maxretry: int, findtime_ms: int, bantime_ms: int
) -> None:
    limits = Limits(maxretry, findtime_ms)
    assert replay(happened, [limits], bantime_ms).outcomes == (counted_slowly(happened, limits, bantime_ms),)


@given(st.lists(events, max_size=40))
def test_long_windows_and_bans_too(happened: list[Event]) -> None:
    grid = [Limits(m, f) for m in (1, 3) for f in (HOUR, 6 * HOUR)]
    assert replay(happened, grid, 2 * HOUR).outcomes == tuple(counted_slowly(happened, o, 2 * HOUR) for o in grid)


def wrong(times: Sequence[int], network: Network = ADDRESSES[0], room: str = "meet.alice") -> list[Event]:
    return [Event(at, network, room) for at in times]


def joins(times: Sequence[int], network: Network = ADDRESSES[0]) -> list[Event]:
    return [Event(at, network, joined=True) for at in times]


def outcome_of(happened: Sequence[Event], maxretry: int = 5, bantime_ms: int = 5 * MINUTE) -> Outcome:
    [outcome] = replay(happened, [Limits(maxretry, 5 * MINUTE)], bantime_ms).outcomes
    return outcome


def test_a_person_who_finds_the_right_pin_after_a_ban_is_likely_innocent() -> None:
    assert outcome_of(wrong(range(0, 5_000, 1_000)) + joins([10 * MINUTE])).innocent == 1


def test_a_guesser_who_finds_a_pin_is_not() -> None:
    guesses = list(range(0, 200 * MINUTE, MINUTE // 2))
    outcome = outcome_of(wrong(guesses) + joins([guesses[-1] + 1]))
    assert (outcome.addresses, outcome.innocent) == (1, 0)


def test_a_guesser_who_found_a_pin_is_told_from_a_person_among_the_first() -> None:
    happened = wrong(range(100)) + joins([100]) + wrong(range(5), ADDRESSES[1]) + joins([9], ADDRESSES[1])
    replayed = replay(happened, [Limits(5, 10)], 5)
    assert [(tried.network, tried.failures, tried.joins) for tried in replayed.top] == [
        (ADDRESSES[0], 100, 1),
        (ADDRESSES[1], 5, 1),
    ]
    assert [likely_innocent(tried.failures, tried.joins) for tried in replayed.top] == [False, True]


def test_a_join_of_last_week_makes_nobody_innocent() -> None:
    assert outcome_of(joins([0]) + wrong(range(7 * DAY, 7 * DAY + 5))).innocent == 0


def test_an_office_is_hit_by_its_ban() -> None:
    people = range(0, 30_000, 1_000)
    assert outcome_of(wrong([5, 6, 7]) + joins(people), maxretry=3).innocent == 1
    assert outcome_of(wrong([5, 6, 7]) + joins(people), maxretry=5).addresses == 0


def test_a_ban_stops_what_falls_into_it_until_just_before_its_end() -> None:
    outcome = outcome_of(wrong([0, 1, 2, 50, 101, 102, 103]), maxretry=3, bantime_ms=100)
    assert (outcome.bans, outcome.stopped) == (1, 2)  # 50 and 101; 102 is the first of a new count
    assert outcome_of(wrong([0, 1, 2, 50, 101, 102, 103, 104]), maxretry=3, bantime_ms=100).bans == 2


def test_the_top_names_the_rooms_tried_most() -> None:
    happened = wrong(range(5), room="a") + wrong(range(3), room="b") + wrong([1], room="c") + wrong([2, 3], room="d")
    [tried] = replay(happened, [], 1).top
    assert (tried.failures, tried.rooms, tried.named) == (11, 4, ("a", "b", "d"))


def test_addresses_that_only_join_are_nobodys_business() -> None:
    replayed = replay(joins([1, 2, 3]), [Limits(1, 1)], 1)
    assert (replayed.addresses, replayed.failures, replayed.top) == (0, 0, ())
    assert replayed.outcomes == (Outcome(Limits(1, 1), 0, 0, 0, 0, 0),)


def test_limits_not_typed_lie_around_those_of_the_settings() -> None:
    grid = grid_of(Rule())
    assert sorted({limits.maxretry for limits in grid}) == [3, 5, 8, 10]
    assert sorted({limits.findtime_ms for limits in grid}) == [MINUTE, 5 * MINUTE, 10 * MINUTE, HOUR]
    assert len(grid) == 16


@given(st.integers(1, 1_000), st.integers(1_000, 30 * DAY))
def test_whatever_the_settings_their_limits_are_among_those_tried(maxretry: int, findtime_ms: int) -> None:
    grid = grid_of(Rule(maxretry=maxretry, findtime=Milliseconds(findtime_ms)))
    assert Limits(maxretry, findtime_ms) in grid
    assert all(1 <= each.maxretry <= 1_000 and 1_000 <= each.findtime_ms <= 30 * DAY for each in grid)


def test_limits_typed_are_tried_once_each_in_order() -> None:
    assert grid_of(Rule(), "10, 3,3", "1m") == (Limits(3, MINUTE), Limits(10, MINUTE))


@pytest.mark.parametrize(
    ("maxretry", "findtime"),
    [
        ("", None), ("0", None), ("1001", None), ("3,,5", None), ("3;5", None), ("-1", None), ("five", None),
        ("٣", None), ("1,2,3,4,5,6,7,8,9", None), (None, ""), (None, "0s"), (None, "31d"), (None, "5x"), (None, "1m,"),
    ],
)  # fmt: skip
def test_limits_that_cannot_be_are_one_line(maxretry: str | None, findtime: str | None) -> None:
    with pytest.raises(PinbanError) as caught:
        grid_of(Rule(), maxretry, findtime)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("findtime" if maxretry is None else "maxretry")
