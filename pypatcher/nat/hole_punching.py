"""Opens ways to other nodes: sends knocks to the addresses that the knock queue names, and remembers who answered.

A knock is one KRPC ping from the one socket: it opens our own router for the answer and for the other side's knock, and
its answer proves that a node of our namespace is there. design.md "Opening the way". Not here: every limit on knocks
(``knock_queue``), and the connection that follows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from typing import Protocol

from pypatcher.addresses import Address, is_loopback
from pypatcher.dht import Answered
from pypatcher.discovery.census import Census
from pypatcher.discovery.sources import Found
from pypatcher.nat.knock_queue import KnockQueue
from pypatcher.nat.ways import Ways
from pypatcher.waiting import wait_at_most

__all__ = ["HolePuncher"]

_LOOK_AT_OURSELVES = 10.0
_KNOCKS_AT_ONCE = 64
_CLOCK_SET = 1.0
_STRANGER_TRIES, _NEIGHBOUR_TRIES = 1, 2
_WAITING = 64


class Knocker(Protocol):
    """The part of a node's place in the network that knocking needs."""

    async def knock(self, address: Address, *, tries: int) -> Answered:
        """One KRPC ping, so many packets at most; who answered."""

    def own_addresses(self) -> tuple[Address, ...]:
        """Where others see us, as far as we know."""


class HolePuncher(Ways):
    """One node's hole punching: every source adds addresses, the updater and the offers ask which are open.

    Args:
        census: told who proves to be a node of ours, and of every way that opens.
        clock: monotonic seconds.
        wall: unix time.
    """

    stranger_jitter = 0.0

    def __init__(
        self,
        queue: KnockQueue,
        census: Census,
        network: Knocker,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._census = census
        self._network = network
        self._clock = clock
        self._wall = wall
        self._own: tuple[Address, ...] = ()
        self._holders: frozenset[Address] = frozenset()
        self._open: asyncio.Queue[Address] = asyncio.Queue(_WAITING)
        self._changed = asyncio.Event()

    def hear(self, found: Found) -> None:
        """Add addresses at which somebody may be."""
        now, wall = self._clock(), self._wall()
        if found.crowd is not None:
            self._queue.crowd(found.crowd, now, wall)
        self._queue.add(found.addresses, found.limits, now, wall)
        if found.may_hold_wanted:
            # There may be something new to be had of these: they rest no longer.
            self._queue.end_rest(found.addresses, now, wall)
        self._changed.set()

    def note_holders(self, addresses: Collection[Address]) -> None:
        """These hold a release that is wanted here, and no others do."""
        self._holders = frozenset(addresses)
        self._queue.note_holders(self._holders, self._clock(), self._wall())
        self._changed.set()

    def knock_anew(self) -> None:
        """Our release or our address changed: knock at everybody again."""
        self._queue.knock_anew(self._clock(), self._wall())
        self._changed.set()

    def is_holder(self, address: Address) -> bool:
        """Whether the updater dials it itself, because it holds what is wanted."""
        return address in self._holders

    def is_open(self, address: Address) -> bool:
        """Whether it answered a moment ago."""
        return self._queue.is_open(address, self._clock())

    async def next_open(self) -> Address:
        """Wait for the next address that answers; beyond 64 that nobody waited for they are forgotten."""
        return await self._open.get()

    def reached(self, address: Address) -> None:
        """It was dialed, or dialed us, and is a node of ours."""
        self._queue.reached(address, self._clock())
        self._census.prove(address)

    def busy(self, address: Address) -> None:
        """It was met, but the transfer that was due did not happen: knock again soon."""
        self._queue.busy(address, self._clock(), self._wall())
        self._changed.set()

    def failed(self, address: Address) -> None:
        """It answered a knock and could not be dialed."""
        self._queue.failed(address, self._clock(), self._wall())

    def useless(self, address: Address) -> None:
        """It was met: neither side has anything for the other."""
        self._queue.useless(address, self._clock())

    def is_us(self, address: Address) -> None:
        """It turned out to be ourselves."""
        self._census.is_us(address)
        self._queue.forget(address, self._clock(), self._wall())

    async def run(self) -> None:
        """Knock until cancelled."""
        async with asyncio.TaskGroup() as knocks:
            under_way: set[asyncio.Task[None]] = set()
            offset = self._wall() - self._clock()
            while True:
                self._changed.clear()
                own = self._network.own_addresses()
                if own != self._own:
                    self._own = own
                    self._queue.seen_at(own, self._clock(), self._wall())
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
        tries = _NEIGHBOUR_TRIES if self._queue.is_neighbour(address) else _STRANGER_TRIES
        answered = await self._network.knock(address, tries=tries)
        if answered.is_member:
            self._census.prove(address)
            self._census.note_v1(address, answered is Answered.MEMBER_V1)
        # On this machine a holder's address is dialed whatever it answers: that costs nobody else anything.
        is_tried = is_loopback(address) and address in self._holders
        if answered is Answered.STRANGER:
            is_tried = is_tried or self._queue.may_try(address)
        if answered.is_member or is_tried:
            self._queue.answered(address, self._clock())
            with contextlib.suppress(asyncio.QueueFull):
                self._open.put_nowait(address)
            self._census.news.tell()
