"""Notices a change of our own addresses and of the kind of router before us. Pure: the caller looks, and acts.

A change is Wi-Fi to Ethernet, DHCP, or a router that forgot its table. Looking takes no packet: the routing table has
our own addresses, and DHT nodes say the outside ones. But to tell everybody takes many, and whoever may send what looks
like a router's advertisement gives us an address every second: so that is told a few times at once, and then seldom.
design.md "Discovery" (address hints). Not here: what is announced anew.
"""

from __future__ import annotations

from typing import NamedTuple

from pypatcher.addresses import Address, format_address
from pypatcher.events import AddressesChanged
from pypatcher.limits import RateLimiter

__all__ = ["LOOK_EVERY", "TOLD_AT_ONCE", "TOLD_EVERY", "AddressChange", "AddressMonitor", "nat_kind"]

LOOK_EVERY = 5.0
"""Seconds between two looks."""
TOLD_AT_ONCE, TOLD_EVERY = 6, 300.0
"""How often others are told at once of another address, and seconds in which that may be once more."""


def nat_kind(port_varies: bool | None) -> str:
    """``easy``: no router, or one that keeps one port for all destinations; ``hard``: another port for each."""
    return {None: "unknown", False: "easy", True: "hard"}[port_varies]


class AddressChange(NamedTuple):
    """What is another than at the last look.

    Attributes:
        has_new: whether there is an address that was not there.
    """

    event: AddressesChanged
    has_new: bool


class AddressMonitor:
    """Compares one node's addresses with those of the last look; the first that become known are no change."""

    def __init__(self) -> None:
        self._known: tuple[Address, ...] | None = None
        self._nat = nat_kind(None)
        self._is_untold = False
        self._told = RateLimiter(1 / TOLD_EVERY, TOLD_AT_ONCE)

    def look(self, addresses: tuple[Address, ...], port_varies: bool | None) -> AddressChange | None:
        """What changed.

        Args:
            addresses: where others may reach us, as far as we know.
            port_varies: whether others see us at different ports; None while too few have said.
        """
        known, self._known = self._known, addresses
        nat, self._nat = self._nat, nat_kind(port_varies)
        if known is None or (set(addresses) == set(known) and nat == self._nat):
            return None
        event = AddressesChanged(tuple(map(format_address, addresses)), self._nat)
        change = AddressChange(event, has_new=not set(addresses) <= set(known))
        self._is_untold |= change.has_new
        return change

    def must_tell(self, now: float) -> bool:
        """Whether others are to be told now of what is new by now (monotonic seconds); if so it is counted."""
        if self._is_untold and self._told.allow(None, now):
            self._is_untold = False
            return True
        return False
