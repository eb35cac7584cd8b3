"""A node notices where it is, says so once, and knows when others must be told."""

from __future__ import annotations

import itertools

from pypatcher.addresses import Address
from pypatcher.nat.address_monitor import AddressMonitor

HOME: Address = ("192.168.1.7", 6881)
OUTSIDE: Address = ("93.184.7.7", 6881)
ELSEWHERE: Address = ("10.0.0.9", 6881)


def test_outside_address_and_kind_of_router_are_said_when_known() -> None:
    monitor = AddressMonitor()
    assert monitor.look((HOME,), None) is None
    change = monitor.look((OUTSIDE, HOME), False)
    assert monitor.look((OUTSIDE, HOME), False) is None
    assert change is not None
    assert change.event.to_dict() == {
        "event": "addresses.changed",
        "addresses": ("93.184.7.7:6881", "192.168.1.7:6881"),
        "nat": "easy",
    }


def test_a_new_address_must_be_told_and_a_lost_one_not() -> None:
    monitor = AddressMonitor()
    assert monitor.look((OUTSIDE, HOME), None) is None
    lost = monitor.look((HOME,), None)
    new = monitor.look((ELSEWHERE,), None)
    assert lost is not None
    assert new is not None
    assert (lost.has_new, new.has_new) == (False, True)


def test_a_router_that_became_hard_is_said_and_is_no_new_address() -> None:
    monitor = AddressMonitor()
    assert monitor.look((OUTSIDE,), False) is None
    change = monitor.look((OUTSIDE,), True)
    assert change is not None
    assert change.event.to_dict()["nat"] == "hard"
    assert not change.has_new


def test_who_gives_us_an_address_every_few_seconds_has_few_told() -> None:
    """The attack: a router's advertisements in a LAN: everybody was told of each, 30 kB a time, 17,280 times a day."""
    monitor, told = AddressMonitor(), list[float]()
    for number in range(17_281):
        monitor.look((HOME, (f"2001:db8:0:{number:x}::7", 6881)), None)
        if monitor.must_tell(5.0 * number):
            told.append(5.0 * number)
    assert told[:6] == [5.0, 10.0, 15.0, 20.0, 25.0, 30.0]
    assert len(told) < 300
    assert max(later - sooner for sooner, later in itertools.pairwise(told)) <= 310.0


def test_what_was_not_told_at_once_is_told_later() -> None:
    monitor = AddressMonitor()
    for number in range(10):
        monitor.look(((f"10.0.0.{number}", 6881),), None)
        monitor.must_tell(5.0 * number)
    moments = [moment for moment in range(50, 1000, 5) if monitor.must_tell(float(moment))]
    assert len(moments) == 1
