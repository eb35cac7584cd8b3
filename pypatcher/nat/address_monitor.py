"""Watches for a change of our own addresses and of the kind of router before us, and tells who must know.

Looked at every few seconds, without a packet: the routing table for our own addresses, what DHT nodes say about the
outside ones. A change is Wi-Fi to Ethernet, DHCP, or a router that forgot its table. design.md "Discovery" (address
hints). Not here: what is announced anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from pypatcher.addresses import Address, format_address
from pypatcher.events import AddressesChanged, Emit

__all__ = ["AddressMonitor", "nat_kind"]

_PAUSE = 5.0


def nat_kind(port_varies: bool | None) -> str:
    """``easy``: no router, or one that keeps one port for all destinations; ``hard``: another port for each."""
    return {None: "unknown", False: "easy", True: "hard"}[port_varies]


class AddressMonitor:
    """Watches one node's addresses and tells when one changed.

    Args:
        addresses: where others may reach us, as far as we know.
        port_varies: whether others see us at different ports; None while too few have said.
        changed: called when an address changed, but not for the first that become known.
    """

    def __init__(
        self,
        addresses: Callable[[], tuple[Address, ...]],
        port_varies: Callable[[], bool | None],
        *,
        emit: Emit,
        changed: Callable[[], None],
    ) -> None:
        self._addresses = addresses
        self._port_varies = port_varies
        self._emit = emit
        self._changed = changed
        self._known: tuple[Address, ...] | None = None
        self._nat = nat_kind(None)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(_PAUSE)

    def look(self) -> None:
        """Look once."""
        addresses, nat = self._addresses(), nat_kind(self._port_varies())
        known, self._known = self._known, addresses
        if known is not None and (set(addresses) != set(known) or nat != self._nat):
            self._emit(AddressesChanged(tuple(map(format_address, addresses)), nat))
            if not set(addresses) <= set(known):
                self._changed()
        self._nat = nat
