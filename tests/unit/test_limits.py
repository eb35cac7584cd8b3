"""The rate limiters: what passes at once, what passes later, and what is remembered of whom."""

from __future__ import annotations

from pypatcher.limits import DaySums, Limit, Pace, RateLimiter, WindowLimiter


def test_a_limit_lets_a_burst_pass_and_then_its_rate() -> None:
    limiter = RateLimiter(rate=2.0, burst=10.0)
    assert sum(limiter.allow("a", 0.0) for _ in range(50)) == 10
    assert sum(limiter.allow("a", 5.0) for _ in range(50)) == 10
    assert sum(limiter.allow("a", 6.0) for _ in range(50)) == 2
    assert limiter.allow("b", 6.0)


def test_a_limiter_remembers_a_bounded_number_of_sources() -> None:
    limiter = RateLimiter(rate=0.0, burst=1.0, capacity=10)
    for source in range(1000):
        assert limiter.allow(source, 0.0)
    assert not limiter.allow(999, 0.0)
    assert limiter.allow(0, 0.0)


def test_a_window_admits_so_many_and_says_when_the_next_may_come() -> None:
    window, limit = WindowLimiter(), Limit("a", 3, 60.0)
    assert [window.allow(limit, float(second)) for second in (0, 10, 20, 30)] == [True, True, True, False]
    assert window.wait([limit], 30.0) == 30.0
    assert window.allow(limit, 60.0)
    assert not window.allow(limit, 69.0)


def test_of_several_limits_the_one_that_opens_last_decides() -> None:
    window, short, long = WindowLimiter(), Limit("host", 1, 10.0), Limit("network", 1, 100.0)
    window.count([short, long], 0.0)
    assert window.wait([short, long], 5.0) == 95.0
    assert not window.allows([short, long], 50.0)
    assert window.allows([short, long], 100.0)


def test_a_days_sum_is_forgotten_after_24_hours() -> None:
    sums = DaySums()
    sums.add(("a", "all"), 5, 0.0)
    sums.add(("b", "all"), 7, 40_000.0)
    assert sums.total(("a", "b", "all"), 80_000.0) == {"a": 5, "b": 7, "all": 12}
    assert sums.total(("b", "all"), 90_000.0) == {"b": 7, "all": 7}
    assert sums.total(("a",), 90_000.0)["a"] == 0


def test_memory_of_a_day_is_bounded() -> None:
    sums = DaySums()
    for minute in range(20_000):
        sums.add(("a",), 1000, 60.0 * minute)
    assert len(sums._sums) <= 26


def test_what_is_taken_back_was_spent_last_and_takes_no_memory() -> None:
    sums = DaySums()
    sums.add(("a", "all"), 5, 0.0)
    sums.add(("a", "all"), 7, 40_000.0)
    sums.take_back(("a", "all", "nobody"), 9)
    assert sums.total(("a", "all"), 40_000.0) == {"a": 3, "all": 3}
    assert sums.total(("a", "all"), 90_000.0) == {"a": 0, "all": 0}
    sums.add(("a", "all"), 5, 90_000.0)
    sums.take_back(("a", "all"), 5)
    assert not any(share for _, share in sums._sums)


def test_a_day_tells_a_bounded_number_of_keys_apart() -> None:
    sums = DaySums()
    for number in range(20_000):
        sums.add((f"host {number}", f"network {number // 4}", "all"), 1, 4.0 * number)
    assert sum(len(share) for _, share in sums._sums) <= 2 * 4096 + 30
    assert sums.total(("host 5", "network 1", "all"), 80_000.0) == {"host 5": 1, "network 1": 4, "all": 20_000}
    assert sums.total(("host 19999", "network 4000"), 80_000.0) == {"host 19999": 0, "network 4000": 4}


def test_a_pace_lets_a_burst_pass_and_then_makes_wait() -> None:
    pace = Pace(1000, 0.25, 0.0)
    assert [pace.spend(250, 0.0) for _ in range(3)] == [0.0, 0.0, 0.25]
    assert pace.spend(250, 10.0) == 0.0
