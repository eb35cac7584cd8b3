"""What failure may cost: pauses by group of addresses, bytes by release, and whom to ask first."""

from __future__ import annotations

import pytest

from pypatcher.addresses import Address
from pypatcher.budgets.peer_budget import FetchBudget, rank_addresses

SIZE = 1000
STRANGER, NEIGHBOUR, OTHER = ("8.8.8.8", 1), ("8.8.8.9", 2), ("9.9.9.9", 1)
LAN, LAN_TOO = ("192.168.1.5", 1), ("192.168.1.6", 1)


def failing(budget: FetchBudget, address: Address, times: int, received: int = 0) -> list[float]:
    """The pauses after each of some failures in a row, each as soon as it is allowed."""
    now, waits = 0.0, []
    for _ in range(times):
        budget.failed("release", SIZE, address, received, now)
        waits.append(budget.wait("release", address, now))
        now += waits[-1]
    return waits


def test_nobody_waits_at_first() -> None:
    assert FetchBudget().wait("release", STRANGER, 0.0) == 0


def test_pauses_of_a_group_double_up_to_six_hours() -> None:
    waits = failing(FetchBudget(), STRANGER, 12)
    assert waits[:4] == [30, 60, 120, 240]
    assert waits[-1] == waits[-2] == 6 * 3600


def test_a_group_is_a_24_a_host_of_the_lan_and_a_port_of_loopback() -> None:
    budget = FetchBudget()
    for address in (STRANGER, LAN, ("127.0.0.1", 1), ("2001:4860:1::1", 1)):
        budget.failed("release", SIZE, address, 0, 0.0)
    waiting = (NEIGHBOUR, ("192.168.1.5", 9), ("127.0.0.1", 1), ("2001:4860:1:2::9", 5))
    free = (OTHER, LAN_TOO, ("127.0.0.1", 2), ("2001:4860:2::1", 1))
    assert all(budget.wait("release", address, 1.0) > 0 for address in waiting)
    assert all(budget.wait("release", address, 1.0) == 0 for address in free)


def test_three_times_its_size_failed_pauses_a_release_for_strangers() -> None:
    budget = FetchBudget()
    budget.succeeded(("7.7.7.7", 1))
    for number in range(3):
        assert budget.wait("release", OTHER, 0.0) == 0
        budget.failed("release", SIZE, (f"8.8.{number}.8", 1), SIZE, 0.0)
    assert budget.wait("release", OTHER, 0.0) == 30
    assert budget.wait("another release", OTHER, 0.0) == 0
    assert budget.wait("release", LAN, 0.0) == 0
    assert budget.wait("release", ("7.7.7.7", 1), 0.0) == 0
    for number in range(3):
        budget.failed("release", SIZE, (f"8.9.{number}.8", 1), SIZE, 30.0)
    assert budget.wait("release", OTHER, 30.0) == 60


def test_six_times_its_size_failed_pauses_a_release_for_the_lan() -> None:
    budget = FetchBudget()
    for number in range(6):
        assert budget.wait("release", LAN, 0.0) == 0
        budget.failed("release", SIZE, (f"192.168.1.{100 + number}", 1), SIZE, 0.0)
    assert budget.wait("release", LAN, 0.0) == 30
    assert budget.wait("release", STRANGER, 0.0) == 0
    budget.succeeded(LAN_TOO)
    assert budget.wait("release", LAN_TOO, 0.0) == 0


def test_a_day_has_a_bounded_number_of_failed_bytes() -> None:
    budget, now, failed = FetchBudget(), 0.0, 0
    while now < 86_400.0:
        for number in range(50):
            for address in ((f"192.168.1.{number}", 1), (f"20.{number}.1.1", 1)):
                if not budget.wait("release", address, now):
                    budget.failed("release", SIZE, address, SIZE, now)
                    failed += 1
        now += 10.0
    assert 30 <= failed <= 40


@pytest.mark.parametrize("in_lan", [False, True])
def test_one_side_does_not_spend_the_day_of_the_other(in_lan: bool) -> None:
    """The attack: a LAN machine with many addresses and wrong files kept every stranger from being asked for hours."""
    budget, now, failed = FetchBudget(), 0.0, 0
    while True:
        address = (f"fd00::{failed:x}" if in_lan else f"2a00:{failed:x}::1", 1)
        if (wait := budget.wait("release", address, now)) > 3600.0:
            break
        now += wait
        budget.failed("release", SIZE, address, SIZE, now)
        failed += 1
    assert failed == 15
    assert budget.wait("release", STRANGER if in_lan else LAN, now) == 0


def test_bytes_of_who_was_given_up_as_slow_count_too() -> None:
    budget = FetchBudget()
    for number in range(6):
        budget.slow("release", SIZE, (f"192.168.1.{100 + number}", 1), SIZE, 0.0)
    assert budget.wait("release", LAN, 0.0) == 30


def test_an_address_where_nobody_answers_pauses_alone_for_an_hour() -> None:
    budget, now, waits = FetchBudget(), 0.0, []
    for _ in range(12):
        budget.unreachable(STRANGER, now)
        waits.append(budget.wait("release", STRANGER, now))
        assert budget.wait("release", NEIGHBOUR, now) == 0
        now += waits[-1]
    assert waits[0] == 10
    assert waits[-1] == 3600


def test_success_forgets_what_the_group_did_before() -> None:
    budget = FetchBudget()
    failing(budget, STRANGER, 5)
    budget.unreachable(STRANGER, 0.0)
    budget.succeeded(STRANGER)
    assert budget.wait("release", STRANGER, 0.0) == 0
    assert failing(budget, STRANGER, 1) == [30]


def test_who_fails_is_not_good_any_more() -> None:
    budget = FetchBudget()
    budget.succeeded(STRANGER)
    budget.succeeded(OTHER)
    budget.failed("release", SIZE, STRANGER, 0, 0.0)
    assert list(budget.good) == [OTHER]


def test_the_first_stranger_for_a_release_is_told_once() -> None:
    budget = FetchBudget()
    assert [budget.first_stranger(name) for name in ("a", "a", "b")] == [True, False, True]


def test_who_delivered_before_comes_first_then_lan_and_rest_by_turns() -> None:
    order = rank_addresses([STRANGER, LAN, OTHER, LAN_TOO, NEIGHBOUR, STRANGER], {OTHER: None})
    assert order == [OTHER, LAN, STRANGER, LAN_TOO, NEIGHBOUR]


def test_a_thousand_made_up_lan_addresses_delay_a_stranger_by_one() -> None:
    made_up = [(f"192.168.{number % 250}.{number // 250}", 1) for number in range(1000)]
    assert rank_addresses([*made_up, STRANGER], ()).index(STRANGER) == 1


def test_tables_are_bounded_and_what_was_used_last_stays() -> None:
    budget = FetchBudget()
    for number in range(10_000):
        address = (f"{1 + number // 65536}.{number // 256 % 256}.{number % 256}.1", 1)
        budget.failed(f"release {number}", SIZE, address, 0, 0.0)
        budget.unreachable(address, 0.0)
        budget.succeeded(address)
        budget.first_stranger(f"release {number}")
    assert len(budget.good) <= 4096
    assert address in budget.good
