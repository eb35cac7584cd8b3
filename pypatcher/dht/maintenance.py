"""Keeping a node in the network: joining, joining again, checking quiet nodes, refreshing the table.

The tasks of a DhtNode and when they act; what a query is and whom to ask for a target is not known here. Entry points
that are down are asked again with pauses that grow from half a second to 2 minutes. Names are resolved without
blocking the loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from random import Random
from typing import Any, Protocol

from pypatcher.addresses import Address, family, is_literal
from pypatcher.backoff import Backoff
from pypatcher.bencode import Value
from pypatcher.dht import krpc
from pypatcher.dht.crowd import Silence
from pypatcher.dht.krpc import Response
from pypatcher.dht.nodeid import Contact, sibling_id
from pypatcher.dht.resolve import Resolver
from pypatcher.dht.routing import RoutingTable
from pypatcher.errors import PeerError
from pypatcher.tasks import keep_running
from pypatcher.waiting import wait_at_most

__all__ = ["Maintenance"]

_log = logging.getLogger("pypatcher.dht")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 120.0
_EARLY_REFRESHES = (3.0, 60.0)
_SELDOM = 86400.0
_REFRESH, _CHECK, _QUIET = 7200.0, 60.0, 600.0
_LOOK_AROUND_ROUNDS, _LOOK_AROUND_BUCKETS, _LOOK_AROUND_QUERIES = 4, 4, 8
_ENTRIES, _KNOWN = 16, 32
_SETTLE_TIME = 1.0
_RESOLVE_TIME = 10.0
_AFTER_CRASH = (5.0, 300.0)
_PROBES_AT_ONCE = 64


class _Node(Protocol):
    """What the tasks need of the node that they keep in the network."""

    family: int
    read_only: bool

    @property
    def node_id(self) -> bytes: ...
    @property
    def table(self) -> RoutingTable: ...
    @property
    def clock(self) -> Callable[[], float]: ...
    async def joined(self) -> None: ...
    async def ping(self, address: Address) -> bool: ...
    async def find_nodes(
        self, target: bytes, seeds: Iterable[Contact] = (), *, max_queries: int = ...
    ) -> list[Contact]: ...
    async def ask(
        self, address: Address, method: bytes, arguments: Mapping[bytes, Value], *, tries: int = 2
    ) -> Response: ...


class Maintenance:
    """The background tasks of one node; started once, stopped once."""

    def __init__(self, node: _Node, bootstrap: Sequence[Address], random: Random) -> None:
        self._node = node
        self._bootstrap = tuple(bootstrap)[:_ENTRIES]
        self._known: tuple[Address, ...] = ()
        self._random = random
        self._rejoin = asyncio.Event()
        self._refresh = asyncio.Event()
        self._settled = asyncio.Event()
        self._resolver = Resolver(node.family)
        self._tasks: set[asyncio.Task[None]] = set()
        self._probes = 0

    def start(self, known_nodes: Iterable[Address]) -> None:
        """Begin to join, by the entry points and nodes of an earlier run; returns at once."""
        self._known = tuple(known for known in known_nodes if self._is_ours(known))[:_KNOWN]
        for body in (self._keep_joined, self._keep_refreshed, self._keep_checked):
            self._spawn(keep_running("a DHT task", partial(_forever, body), _AFTER_CRASH))

    async def stop(self) -> None:
        """Cancel every task and wait for its end."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Wait until the first look around has ended, or for a second."""
        await wait_at_most(self._settled, _SETTLE_TIME)

    def rejoin(self) -> None:
        """Nobody is left who answers: the entry points are asked again."""
        self._rejoin.set()

    def refresh_soon(self) -> None:
        """Our id changed: other nodes are our neighbours now."""
        self._refresh.set()

    def probe(self, address: Address, mute: Silence | None = None) -> None:
        """Ask a node whether it is there; if it answers, it enters the table, and ``mute``: it answers pings alone."""
        if self._probes < _PROBES_AT_ONCE:
            self._probes += 1
            self._spawn(self._probe(address, mute))

    async def _probe(self, address: Address, mute: Silence | None) -> None:
        try:
            if await self._node.ping(address) and mute is not None:
                mute.begin(address, self._node.clock())
        finally:
            self._probes -= 1

    def _spawn(self, body: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(body)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("a DHT task ended", exc_info=error)

    def _jittered(self, seconds: float) -> float:
        return seconds * self._random.uniform(0.8, 1.2)

    async def _keep_joined(self) -> None:
        retry = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not await self._join() and (self._bootstrap or self._known):
            pause = retry.fail()
            await asyncio.sleep(self._jittered(pause))
        self._settled.set()
        self._rejoin.clear()
        await self._rejoin.wait()

    async def _join(self) -> bool:
        entries = {*await self._resolve(), *self._known}
        own_id = self._node.node_id
        entered: set[bytes] = set()

        async def enter(address: Address) -> None:
            try:
                answer = await self._node.ask(address, b"find_node", {b"target": own_id}, tries=3)
            except PeerError:
                return
            if answer.sender == own_id:
                return
            entered.add(answer.sender)
            if len(entered) == 1:
                contacts = krpc.nodes_of(answer.values, self._node.family)
                await self._node.find_nodes(own_id, [Contact(answer.sender, address), *contacts])
                await self._look_around()
                self._settled.set()

        async with asyncio.TaskGroup() as group:
            for address in entries:
                group.create_task(enter(address))
        return bool(entered or self._node.table.good())

    async def _look_around(self) -> None:
        """Fill the shallow buckets: answers hold 8 nodes, too few to know the 20 nearest to any target."""
        node = self._node
        for _ in range(_LOOK_AROUND_ROUNDS):
            known = len(node.table)
            targets = [
                sibling_id(node.node_id, index, self._random)
                for index in range(_LOOK_AROUND_BUCKETS)
                if node.table.room(index)
            ]
            await asyncio.gather(*(node.find_nodes(target, max_queries=_LOOK_AROUND_QUERIES) for target in targets))
            if len(node.table) <= known:
                break

    async def _resolve(self) -> set[Address]:
        results = await asyncio.gather(*(self._resolve_one(entry) for entry in self._bootstrap))
        return {address for addresses in results for address in addresses}

    async def _resolve_one(self, entry: Address) -> list[Address]:
        if is_literal(entry):
            return [entry] if self._is_ours(entry) else []
        try:
            async with asyncio.timeout(_RESOLVE_TIME):
                found = await self._resolver.resolve(entry)
        except TimeoutError:
            found = []
        if not found:
            _log.debug("entry point %s has no address now", entry[0])
        return found

    def _is_ours(self, address: Address) -> bool:
        try:
            return family(address) == self._node.family and krpc.is_usable(address)
        except ValueError:
            return False

    async def _keep_refreshed(self) -> None:
        await self._node.joined()
        for pause in _EARLY_REFRESHES:
            await self._refresh_after(pause)
        while True:
            known = len(self._node.table)
            # Whom nobody asks need not know who is near.
            await self._refresh_after(_SELDOM if self._node.read_only else _REFRESH)
            if len(self._node.table) > known:  # the network changed
                await self._look_around()

    async def _refresh_after(self, pause: float) -> None:
        await wait_at_most(self._refresh, self._jittered(pause))
        self._refresh.clear()
        await self._node.find_nodes(self._node.node_id)

    async def _keep_checked(self) -> None:
        while True:
            await asyncio.sleep(self._jittered(_CHECK))
            good = (contact.address for contact in self._node.table.good()[:_KNOWN])
            self._known = tuple(dict.fromkeys((*good, *self._known)))[:_KNOWN]  # for the day when all are silent
            quiet = self._node.table.stalest(self._node.clock() - _QUIET)
            if quiet is not None and not self._node.read_only:
                await self._node.ping(quiet.address)


async def _forever(body: Callable[[], Coroutine[Any, Any, None]]) -> None:
    while True:
        await body()
