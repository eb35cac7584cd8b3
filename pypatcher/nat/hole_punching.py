"""Opens ways to other nodes: sends knocks to the addresses that the knock queue names, and remembers who answered.

A knock is one KRPC ping from the one socket: it opens our own router for the answer and for the other side's knock, and
its answer proves that a node of our namespace is there. design.md "Opening the way". Not here: every limit on knocks
(``knock_queue``), and the connection that follows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable

from pypatcher.addresses import Address, is_lan
from pypatcher.dht import Answered
from pypatcher.nat.address_hints import usable_hints
from pypatcher.nat.knock_queue import DialQueue, Source
from pypatcher.waiting import wait_at_most

__all__ = ["WaysOut"]

_LOOK_AT_OURSELVES = 10.0
_KNOCKS_AT_ONCE = 64
_CLOCK_SET = 1.0


class WaysOut:
    """One node's hole punching: every source adds addresses, the updater and the offers ask which are open.

    Args:
        knock: one KRPC ping, one packet; who answered.
        own_addresses: where others see us, as far as we know.
        on_open: told in the node's loop when an address answered.
        clock: monotonic seconds.
        wall: unix time.
        is_near: who is near; ``is_lan`` but in tests.
    """

    def __init__(
        self,
        queue: DialQueue,
        *,
        knock: Callable[[Address], Awaitable[Answered]],
        own_addresses: Callable[[], tuple[Address, ...]],
        on_open: Callable[[Address], None],
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        is_near: Callable[[Address], bool] = is_lan,
    ) -> None:
        self._is_near = is_near
        self._queue = queue
        self._knock = knock
        self._own_addresses = own_addresses
        self._on_open = on_open
        self._clock = clock
        self._wall = wall
        self._own: tuple[Address, ...] = ()
        self._ourselves: set[Address] = set()
        self._sought: frozenset[Address] = frozenset()
        self._changed = asyncio.Event()

    @property
    def known(self) -> int:
        """How many addresses are known."""
        return len(self._queue)

    def hear(self, addresses: Iterable[Address], source: Source) -> None:
        """Somebody is said to be there."""
        usable = [each for each in usable_hints(addresses, self._own) if each not in self._ourselves]
        self._queue.add(usable, source, self._clock(), self._wall())
        self._changed.set()

    def crowd(self, size: int) -> None:
        """About so many nodes hear what we hear."""
        self._queue.crowd(size, self._clock(), self._wall())
        self._changed.set()

    def seek(self, addresses: Collection[Address]) -> None:
        """These hold a release that is wanted here, and no others do."""
        self._sought = frozenset(addresses)
        self._queue.wish(self._sought, self._clock(), self._wall())
        self._changed.set()

    def rouse(self, addresses: Iterable[Address]) -> None:
        """There may be something new to be had of these: they rest no longer."""
        self._queue.seek(addresses, self._clock(), self._wall())
        self._changed.set()

    def stir(self) -> None:
        """We have something new, or are somewhere else: everybody is worth a knock again."""
        self._queue.stir(self._clock(), self._wall())
        self._changed.set()

    def is_sought(self, address: Address) -> bool:
        """Whether the updater dials it."""
        return address in self._sought

    def is_open(self, address: Address) -> bool:
        """Whether it answered a moment ago."""
        return self._queue.is_open(address, self._clock())

    def reached(self, address: Address) -> None:
        """It was dialed, or dialed us, and is a node of ours."""
        self._queue.reached(address, self._clock())

    def busy(self, address: Address) -> None:
        """It was met, and what one side has for the other did not pass: it is worth meeting again soon."""
        self._queue.busy(address, self._clock(), self._wall())
        self._changed.set()

    def failed(self, address: Address) -> None:
        """It answered a knock and could not be dialed."""
        self._queue.failed(address, self._clock(), self._wall())

    def useless(self, address: Address) -> None:
        """It was met, and neither side has anything for the other."""
        self._queue.useless(address, self._clock())

    def is_us(self, address: Address) -> None:
        """It turned out to be ourselves."""
        self._ourselves.add(address)
        self._queue.forget(address)

    async def run(self) -> None:
        """Knock until cancelled."""
        async with asyncio.TaskGroup() as knocks:
            under_way: set[asyncio.Task[None]] = set()
            offset = self._wall() - self._clock()
            while True:
                self._changed.clear()
                own = self._own_addresses()
                if own != self._own:
                    self._own = own
                    self._ourselves.clear()
                    self._queue.moved(own, self._clock(), self._wall())
                if abs(self._wall() - self._clock() - offset) > _CLOCK_SET:
                    offset = self._wall() - self._clock()
                    self._queue.replan(self._clock(), self._wall())
                address = self._queue.due(self._clock(), self._wall()) if len(under_way) < _KNOCKS_AT_ONCE else None
                if address is not None and address not in own:
                    knock = knocks.create_task(self._knock_at(address))
                    under_way.add(knock)
                    knock.add_done_callback(under_way.discard)
                pause = min(max(self._queue.wait(self._clock()), 0.01), _LOOK_AT_OURSELVES)
                await wait_at_most(self._changed, pause)

    async def _knock_at(self, address: Address) -> None:
        answered = await self._knock(address)
        # A sought address in the LAN is dialed even so: it costs nobody else anything.
        is_tried = self._is_near(address) and address in self._sought
        if answered is Answered.STRANGER:
            is_tried = is_tried or self._queue.may_try(address)
        if answered is Answered.MEMBER or is_tried:
            self._queue.answered(address, self._clock())
            self._on_open(address)
