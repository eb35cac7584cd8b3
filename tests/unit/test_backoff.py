"""Intervals drift apart, and pauses grow up to their limit."""

from __future__ import annotations

import random

from pypatcher.backoff import Backoff, jittered


def test_intervals_differ_by_a_tenth_at_most() -> None:
    rng = random.Random(1)
    drawn = [jittered(100, rng) for _ in range(1000)]
    assert 90 <= min(drawn) < 92
    assert 108 < max(drawn) <= 110


def test_a_pause_doubles_up_to_its_limit_and_starts_over_on_success() -> None:
    backoff = Backoff(30, 200)
    assert [backoff.fail() for _ in range(5)] == [30, 60, 120, 200, 200]
    backoff.succeed()
    assert backoff.fail() == 30
