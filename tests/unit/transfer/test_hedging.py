"""Who runs beside whom: ``pypatcher.transfer.hedging`` on a clock of the test's own."""

from __future__ import annotations

import pytest

from pypatcher.transfer.hedging import Race, Runner
from pypatcher.version import Version

V2, V3 = Version(2, 0, 0), Version(3, 0, 0)
MIB = 1 << 20
SIZE = 30 * MIB


def run(runner: Runner, rate: float, since: float, until: float) -> None:
    """Let it receive at a steady rate."""
    start = runner.received
    for second in range(int(until - since) + 1):
        runner.progressed(min(runner.size, start + int(second * rate)), since + second)


def test_one_fetch_at_a_time_as_long_as_it_goes_on_well() -> None:
    race = Race()
    assert race.wait(V2, 0.0) == 0
    runner = race.enter(V2, SIZE, 0.0)
    run(runner, MIB / 8, 0, 200)
    assert all(race.wait(V2, now) > 0 for now in (0.0, 29.0, 31.0, 200.0))
    race.leave(runner)
    assert race.wait(V2, 200.0) == 0


@pytest.mark.parametrize("rate", [0.0, 1000.0, 30_000.0])
def test_a_slow_one_gets_a_rival_after_half_a_minute(rate: float) -> None:
    race = Race()
    run(race.enter(V2, SIZE, 0.0), rate, 0, 40)
    assert race.wait(V2, 29.0) > 0
    assert race.wait(V2, 40.0) == 0
    race.enter(V2, SIZE, 40.0)
    assert race.wait(V2, 100.0) > 0


def test_who_was_quick_and_drips_near_the_end_is_slow() -> None:
    race = Race()
    runner = race.enter(V2, SIZE, 0.0)
    run(runner, 100_000, 0, 250)
    assert race.wait(V2, 250.0) > 0
    run(runner, 1100, 250, 500)
    assert race.wait(V2, 500.0) == 0


def test_a_large_file_may_take_its_time() -> None:
    race = Race()
    runner = race.enter(V2, 1000 * MIB, 0.0)
    run(runner, 100_000, 0, 3000)
    assert race.wait(V2, 3000.0) > 0


def test_our_own_limit_is_nobodys_slowness() -> None:
    for limit, is_slow in ((None, True), (70_000, False)):
        race = Race(limit)
        run(race.enter(V2, 1000 * MIB, 0.0), 60_000, 0, 3000)
        assert (race.wait(V2, 3000.0) == 0) is is_slow


def test_a_newer_release_need_not_wait() -> None:
    race = Race()
    race.enter(V2, SIZE, 0.0)
    assert race.wait(V2, 1.0) > 0
    assert race.wait(V3, 1.0) == 0


def test_the_slower_of_two_goes_and_sets_when_the_next_rival_comes() -> None:
    for rate, pause in ((1200.0, 30.0), (20_000.0, 180.0), (60_000.0, 530.0)):
        race = Race()
        drip, honest = race.enter(V2, SIZE, 0.0), race.enter(V2, SIZE, 40.0)
        run(drip, rate / 3, 0, 75)
        run(honest, rate, 40, 75)
        assert race.judge(75.0) is drip
        assert race.judge(76.0) is None
        assert race.wait(V2, 75.0) == pytest.approx(pause, rel=0.1)


def test_a_newcomer_that_is_no_faster_goes_again() -> None:
    race = Race()
    first, second = race.enter(V2, SIZE, 0.0), race.enter(V2, SIZE, 40.0)
    run(first, 20_000, 0, 75)
    run(second, 22_000, 40, 75)
    assert race.judge(75.0) is second


def test_nobody_goes_while_one_of_two_does_well() -> None:
    race = Race()
    drip, honest = race.enter(V2, SIZE, 0.0), race.enter(V2, SIZE, 40.0)
    run(drip, 1200, 0, 75)
    run(honest, MIB, 40, 69)
    assert race.judge(75.0) is None
    assert race.outstanding() == 2 * SIZE - drip.received - honest.received


def test_where_a_rival_has_no_room_none_comes_for_ten_minutes() -> None:
    race = Race()
    race.enter(V2, SIZE, 0.0)
    race.rest(50.0)
    assert race.wait(V3, 50.0) == race.wait(V2, 50.0) == 600.0
