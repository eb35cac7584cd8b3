"""A node notices where it is, says so once, and has everything announced anew when it moved."""

from __future__ import annotations

from dataclasses import dataclass, field

from pypatcher.addresses import Address
from pypatcher.events import Event
from pypatcher.nat.address_monitor import AddressMonitor

HOME: Address = ("192.168.1.7", 6881)
OUTSIDE: Address = ("93.184.7.7", 6881)
ELSEWHERE: Address = ("10.0.0.9", 6881)


@dataclass
class Surroundings:
    """Where the node is, and what was made of it."""

    addresses: tuple[Address, ...] = (HOME,)
    port_varies: bool | None = None
    events: list[Event] = field(default_factory=list)
    moves: int = 0

    def move(self) -> None:
        self.moves += 1

    def watch(self) -> AddressMonitor:
        watching = AddressMonitor(
            lambda: self.addresses, lambda: self.port_varies, emit=self.events.append, changed=self.move
        )
        watching.look()
        return watching


def test_outside_address_and_kind_of_router_are_said_when_known() -> None:
    place = Surroundings()
    watching = place.watch()
    assert place.events == []
    place.addresses, place.port_varies = (OUTSIDE, HOME), False
    watching.look()
    watching.look()
    [event] = place.events
    assert event.to_dict() == {
        "event": "addresses.changed",
        "addresses": ("93.184.7.7:6881", "192.168.1.7:6881"),
        "nat": "easy",
    }


def test_a_new_address_is_a_move_and_a_lost_one_is_none() -> None:
    place = Surroundings((OUTSIDE, HOME))
    watching = place.watch()
    place.addresses = (HOME,)
    watching.look()
    assert (len(place.events), place.moves) == (1, 0)
    place.addresses = (ELSEWHERE,)
    watching.look()
    assert (len(place.events), place.moves) == (2, 1)


def test_a_router_that_became_hard_is_said_and_is_no_move() -> None:
    place = Surroundings((OUTSIDE,), False)
    watching = place.watch()
    watching.look()
    place.port_varies = True
    watching.look()
    assert place.events[-1].to_dict()["nat"] == "hard"
    assert place.moves == 0
