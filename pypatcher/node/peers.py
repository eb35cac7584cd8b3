"""The other nodes of the namespace, from here: who they are said to be, the ways to them, and the meetings.

Puts together the swarm, the LAN, the ways and the meetings of one node; none of them decides anything about
releases. The updater reads the ways, and is woken when one opens.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from pypatcher.addresses import Address, is_lan
from pypatcher.artifact import PatchInfo
from pypatcher.dht import Answered, PeersLookup
from pypatcher.discovery import Lan, Swarm, SwarmSchedule, Visit, namespace_hash
from pypatcher.discovery.candidates import Candidate, Candidates
from pypatcher.nat.address_hints import ports_beyond_loopback
from pypatcher.nat.hole_punching import WaysOut
from pypatcher.nat.knock_queue import DialQueue, Source
from pypatcher.node.network import Network
from pypatcher.settings import Settings
from pypatcher.transfer.offer_exchange import Meetings, Taker
from pypatcher.transport import Connection
from pypatcher.update.updater import Updater

__all__ = ["Fleet"]

_STRANGER_TRIES, _NEAR_TRIES = 1, 2


class _Held(Protocol):
    """What this node serves."""

    @property
    def info(self) -> PatchInfo | None: ...
    async def give(self, connection: Connection, began: Callable[[], None]) -> bool: ...


class Fleet:
    """One a node.

    Args:
        offer_alpn: of the namespace.
        served: what this node serves.
        candidates: where those go who were met and have something newer.
        known: addresses that were reached in an earlier run.
    """

    def __init__(
        self,
        network: Network,
        offer_alpn: str,
        settings: Settings,
        *,
        served: _Held,
        candidates: Candidates,
        known: Iterable[Address],
        rng: random.Random,
        is_near: Callable[[Address], bool] = is_lan,
    ) -> None:
        self._network = network
        self._alpn = offer_alpn
        self._candidates = candidates
        self._is_near = is_near
        self._updater: Updater | None = None
        self._held: PatchInfo | None = None
        self._wanted: frozenset[PatchInfo] = frozenset()
        self._visits = 0
        queue = DialQueue(rng, is_near=is_near)
        queue.prove(known, time.monotonic())
        self.ways = WaysOut(
            queue, knock=self._knock, own_addresses=network.own_addresses, on_open=self._opened, is_near=is_near
        )
        self._meetings = Meetings(
            network.endpoint,
            self.ways,
            alpn=offer_alpn,
            owner=network.namespace.owner,
            held=lambda: served.info,
            give=served.give,
            taker=lambda: None if self._updater is None else _OfferTaker(network, self._updater),
            found=self._found,
            clock=time.monotonic,
        )
        self._swarm = Swarm(
            network.dht,
            SwarmSchedule(network.namespace, rng, interval=settings.look_interval),
            found=self._visited,
            joined=network.joined,
            clock=time.monotonic,
            port=network.mapped_port,
        )
        self._lan = Lan(
            namespace_hash(network.namespace),
            ports_beyond_loopback(network.endpoint.addresses) if settings.lan else {},
            found=lambda neighbour: self.ways.hear([neighbour], Source.LAN),
            clock=time.monotonic,
            rng=rng,
        )

    def updated_by(self, updater: Updater | None) -> None:
        """Who takes what is offered here; None while another process updates this program."""
        self._updater = updater

    def hold(self, info: PatchInfo | None) -> None:
        """This node serves that now."""
        if info != self._held:
            self._held = info
            self._swarm.hold(info)
            self.ways.stir()

    def want(self, releases: list[PatchInfo]) -> None:
        """These are known of and wanted here."""
        wanted = frozenset(releases)
        if wanted != self._wanted:
            self._wanted = wanted
            self._swarm.want(releases)

    def hear(self, heard: Iterable[Candidate]) -> None:
        """Records named these."""
        candidates = list(heard)
        self._candidates.add(candidates, time.monotonic())
        self.ways.hear((each.address for each in candidates), Source.RECORD)

    def moved(self) -> None:
        """This node is somewhere else: everybody is told, and worth a knock again."""
        self._swarm.restart()
        self._lan.announce()
        self.ways.stir()

    async def run(self) -> None:
        """Meet the others until cancelled."""
        self._network.endpoint.serve(self._alpn, self._meetings.answer)
        try:
            async with asyncio.TaskGroup() as tasks:
                for run in (self.ways.run, self._meetings.run, self._swarm.run, self._lan.run):
                    tasks.create_task(run())
        finally:
            self._network.endpoint.stop_serving(self._alpn)

    def _knock(self, address: Address) -> Awaitable[Answered]:
        return self._network.dht.knock(address, tries=_NEAR_TRIES if self._is_near(address) else _STRANGER_TRIES)

    def _opened(self, address: Address) -> None:
        if self._updater is not None:
            self._updater.wake()
        self._meetings.opened(address)

    def _found(self, candidate: Candidate) -> None:
        self._candidates.add([candidate], time.monotonic())
        self.ways.hear([candidate.address], Source.RECORD)
        self.ways.reached(candidate.address)
        if self._updater is not None:
            self._updater.wake()

    def _visited(self, visit: Visit, lookup: PeersLookup) -> None:
        if visit.release is None:
            # Who starts together with others finds nobody at first, and must not take the fleet for small.
            if self._visits:
                self.ways.crowd(lookup.confirmed)
            self._visits += bool(lookup.nodes)
            self.ways.hear(lookup.peers, Source.NAMESPACE_SWARM)
            return
        self.ways.hear(lookup.peers, Source.RELEASE_SWARM)
        if visit.release in self._wanted:
            self.ways.rouse(lookup.peers)


class _OfferTaker(Taker):
    """The updater, fetching over connections that others dialed."""

    def __init__(self, network: Network, updater: Updater) -> None:
        self._network = network
        self._updater = updater

    async def would_take(self, info: PatchInfo, address: Address) -> bool:
        return await self._updater.would_take(info, address)

    async def take(self, candidate: Candidate, connection: Connection) -> None:
        async def fetch(
            candidate: Candidate, write: Callable[[bytes], None], progress: Callable[[int], None]
        ) -> PatchInfo:
            return await self._network.fetch_over(
                connection, candidate.info, write, lambda done, _total: progress(done)
            )

        await self._updater.take(candidate, fetch)
