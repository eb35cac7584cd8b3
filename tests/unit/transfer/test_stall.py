"""A stall is less than 1 kB/s for 60 s: design.md "Transport and transfer"."""

from __future__ import annotations

from pypatcher.transfer.stall import StallRule, StallWatch
from tests.support.transport import ManualClock


def test_999_bytes_a_second_stall_after_a_minute_and_1000_never() -> None:
    for rate, stalls in ((999, True), (1000, False)):
        clock = ManualClock()
        watch = StallWatch(StallRule(), clock)
        for _ in range(300):
            clock.now += 1
            watch.progressed(rate)
            if not watch.remaining():
                break
        assert (clock.now == 60) is stalls


def test_silence_stalls_after_a_minute_whatever_came_before() -> None:
    clock = ManualClock()
    watch = StallWatch(StallRule(), clock)
    clock.now = 10
    watch.progressed(10**9)
    assert watch.remaining() == 60
    clock.now = 70
    assert watch.remaining() == 0


def test_time_that_our_own_limits_take_is_not_the_peers() -> None:
    clock = ManualClock()
    watch = StallWatch(StallRule(), clock)
    watch.pause(100)
    clock.now = 100
    assert watch.remaining() == 60
