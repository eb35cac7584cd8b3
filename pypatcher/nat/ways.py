"""Which addresses may be dialed now, and what came of it: what the updater and the exchange of offers ask and report.

Here stand the protocol and the answer of namespaces whose nodes do not meet. Who opens ways is ``hole_punching``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Protocol

from pypatcher.addresses import Address
from pypatcher.discovery.sources import Found

__all__ = ["EveryWay", "Reachability", "Ways"]


class Reachability(Protocol):
    """The part that the updater reads.

    Attributes:
        stranger_jitter: seconds at most before the first stranger is asked for a release, so that a fleet does not
            come at once; 0 where ways open at different times anyway.
    """

    stranger_jitter: float

    def wish(self, addresses: Collection[Address]) -> None:
        """These hold a release that is wanted here, and no others do."""

    def is_open(self, address: Address) -> bool:
        """Whether it may be dialed now."""

    def reached(self, address: Address) -> None:
        """It was dialed, or dialed us, and is a node of ours."""

    def failed(self, address: Address) -> None:
        """It was dialed in vain."""


class Ways(Reachability, Protocol):
    """All of it."""

    def hear(self, found: Found) -> None:
        """Somebody is said to be there."""

    def stir(self) -> None:
        """We have something new, or are somewhere else: everybody is worth a knock again."""

    def is_wished(self, address: Address) -> bool:
        """Whether the updater dials it."""

    def busy(self, address: Address) -> None:
        """It was met, and what one side has for the other did not pass: it is worth meeting again soon."""

    def useless(self, address: Address) -> None:
        """It was met, and neither side has anything for the other."""

    def is_us(self, address: Address) -> None:
        """It turned out to be ourselves."""

    async def next_open(self) -> Address:
        """Wait for the next address that answers."""

    async def run(self) -> None:
        """Open ways until cancelled."""


class EveryWay(Ways):
    """Where nodes do not knock: everybody may be dialed, and nothing is remembered of anybody."""

    def __init__(self, stranger_jitter: float) -> None:
        self.stranger_jitter = stranger_jitter

    def wish(self, addresses: Collection[Address]) -> None:
        """They are open."""

    def is_open(self, address: Address) -> bool:
        """As all are."""
        return True

    def reached(self, address: Address) -> None:
        """So it should."""

    def failed(self, address: Address) -> None:
        """The fetch budget counts that."""

    def hear(self, found: Found) -> None:
        """Nobody is knocked at."""

    def stir(self) -> None:
        """Nobody is knocked at."""

    def is_wished(self, address: Address) -> bool:
        """All are alike."""
        return False

    def busy(self, address: Address) -> None:
        """The fetch budget counts that."""

    def useless(self, address: Address) -> None:
        """Nobody is met."""

    def is_us(self, address: Address) -> None:
        """Nobody is met."""

    async def next_open(self) -> Address:
        """Nobody is met."""
        never: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        return await never

    async def run(self) -> None:
        """There is nothing to open."""
