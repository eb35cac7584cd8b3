"""A node notices where it is, says so once, and knows when others must be told."""

from __future__ import annotations

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
