"""Every source of addresses in a file of its own, and the list of them: minute slots, the swarm, the LAN, the pointer.

Not here: what a source is (``source``), and who reads what they tell (``discovery.census``, ``nat``).
"""

from __future__ import annotations

from collections.abc import Callable

from pypatcher.discovery.sources.lan import lan_source
from pypatcher.discovery.sources.pointer import pointer_source
from pypatcher.discovery.sources.slots import slot_source
from pypatcher.discovery.sources.source import AddressLimits, AddressSource, Found, Listener, Surroundings
from pypatcher.discovery.sources.swarm import swarm_source

__all__ = [
    "AddressLimits",
    "AddressSource",
    "Found",
    "Listener",
    "Surroundings",
    "open_sources",
]

SOURCES: list[Callable[[Surroundings], AddressSource | None]] = [
    slot_source,
    swarm_source,
    lan_source,
    pointer_source,
]
"""Makes each source of a node, or None where its namespace does not use it."""


def open_sources(around: Surroundings) -> list[AddressSource]:
    """The sources of one node."""
    return [source for make in SOURCES if (source := make(around)) is not None]
