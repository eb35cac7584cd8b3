"""Which addresses may be dialed now, and what came of it: what the updater and the exchange of offers ask and report.

Here stand the protocol and the answer of namespaces whose nodes do not meet. Who opens ways is ``hole_punching``.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from typing import Protocol

from pypatcher.addresses import Address, is_lan, is_loopback, subnet_of
from pypatcher.bounded import note
from pypatcher.discovery.sources import Found
from pypatcher.limits import Limit, WindowLimiter

__all__ = ["EveryWay", "Reachability", "Ways"]


class Reachability(Protocol):
    """The part that the updater reads.

    Attributes:
        stranger_jitter: seconds at most before the first stranger is asked for a release, so that a fleet does not
            come at once; 0 where ways open at different times anyway.
    """

    stranger_jitter: float

    def note_holders(self, addresses: Collection[Address]) -> None:
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

    def knock_anew(self) -> None:
        """Our release or our address changed: knock at everybody again."""

    def is_holder(self, address: Address) -> bool:
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


def _silent(address: Address) -> Limit:
    return Limit(subnet_of(address), 3, 300.0)


class EveryWay(Ways):
    """Where nodes do not knock: everybody may be dialed, but few that are silent in one private network."""

    def __init__(self, stranger_jitter: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.stranger_jitter = stranger_jitter
        self._clock = clock
        self._silent = WindowLimiter()
        self._reached: OrderedDict[Address, None] = OrderedDict()

    def note_holders(self, addresses: Collection[Address]) -> None:
        """They are open."""

    def is_open(self, address: Address) -> bool:
        """All are; in a LAN, whose addresses anybody can name, until 3 of one /24 or /48 were silent in 5 minutes.

        Who was reached before, and not in vain since, stays open.
        """
        if not is_lan(address) or is_loopback(address) or address in self._reached:
            return True
        return self._silent.allows([_silent(address)], self._clock())

    def reached(self, address: Address) -> None:
        """It is no name that somebody made up."""
        note(self._reached, address, None)

    def failed(self, address: Address) -> None:
        """The fetch budget counts that, too."""
        self._reached.pop(address, None)
        if is_lan(address):
            self._silent.count([_silent(address)], self._clock())

    def hear(self, found: Found) -> None:
        """Nobody is knocked at."""

    def knock_anew(self) -> None:
        """Nobody is knocked at."""

    def is_holder(self, address: Address) -> bool:
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
