"""The moments of a pair: both sides draw the same, the rarer are among the frequent, and no wait is without end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.addresses import Address
from pypatcher.nat.punch_times import LAST_LEVEL, WINDOW, level_of_crowd, next_moment, pair_name

ONE: Address = ("20.0.1.9", 6881)
OTHER: Address = ("2a01:20::9", 6882)
WALLS = st.floats(0, 2e9)
LEVELS = st.integers(0, LAST_LEVEL)


def test_both_sides_name_a_pair_alike_and_no_two_pairs_have_one_name() -> None:
    assert pair_name(ONE, OTHER) == pair_name(OTHER, ONE)
    assert len({pair_name(ONE, OTHER), pair_name(ONE, ONE), pair_name(OTHER, OTHER), pair_name(None, ONE)}) == 4


@given(WALLS, LEVELS)
def test_the_next_moment_is_later_and_at_most_two_periods_away(wall: float, level: int) -> None:
    pair = pair_name(ONE, OTHER)
    moment = next_moment(pair, level, wall)
    assert wall < moment < wall + 2 * WINDOW * 2**level
    assert next_moment(pair, level, (wall + moment) / 2) == moment


@given(WALLS, LEVELS)
def test_a_moment_of_a_rarer_level_is_one_of_every_more_frequent(wall: float, level: int) -> None:
    pair = pair_name(ONE, OTHER)
    moment = next_moment(pair, level, wall)
    for lower in range(level):
        assert next_moment(pair, lower, moment - 1e-6) == moment


@pytest.mark.parametrize("level", [0, 1, 5])
def test_every_period_has_one_moment_and_it_may_be_anywhere_in_it(level: int) -> None:
    span, pair = WINDOW * 2**level, pair_name(ONE, OTHER)
    places, wall = [], 0.0
    for period in range(200):
        wall = next_moment(pair, level, wall)
        assert period * span <= wall < (period + 1) * span
        places.append(wall / span - period)
    for quarter in range(4):
        assert 25 < sum(quarter / 4 <= place < (quarter + 1) / 4 for place in places) < 80


@pytest.mark.parametrize("size", range(4, 65))
def test_a_crowd_sends_a_host_no_more_than_three_packets_a_minute(size: int) -> None:
    assert size * 60 / (WINDOW * 2 ** level_of_crowd(size)) <= 3


def test_a_few_need_no_patience_and_the_largest_crowd_has_an_end() -> None:
    assert [level_of_crowd(size) for size in (0, 1, 2, 3)] == [0, 0, 0, 0]
    assert level_of_crowd(10**9) == level_of_crowd(64) == 6
