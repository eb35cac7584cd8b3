"""The other nodes of the namespace, from here: who is said to be there, who can be reached, and how to fetch from one.

Puts together the sources of addresses, the census, the ways and the open port of one node. Everything goes one way:
sources tell this, this tells census and ways, and whoever wants to know reads those. Nothing here decides about
releases, and nothing here knows who reads.
"""

from __future__ import annotations

import asyncio
import enum
import random
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from pypatcher.addresses import Address, format_address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.sources import Found, Surroundings, open_sources
from pypatcher.events import Emit, PortMapped
from pypatcher.limits import RateLimiter
from pypatcher.nat.address_monitor import TOLD_AT_ONCE, TOLD_EVERY
from pypatcher.nat.hole_punching import HolePuncher
from pypatcher.nat.knock_queue import KnockQueue
from pypatcher.nat.on_link import OnLink
from pypatcher.nat.portmap import PortMapper
from pypatcher.nat.ways import EveryWay, Ways
from pypatcher.node.network import Network
from pypatcher.settings import Settings
from pypatcher.tasks import keep_running
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.exchanges import Exchanges
from pypatcher.transfer.gate import OfferGate, Taker
from pypatcher.transfer.offer_exchange import OfferExchange
from pypatcher.transfer.v1.meetings import MeetingsV1

__all__ = ["Parts", "Peers", "Role", "keep_ports_open"]

Parts = dict[str, Callable[[], Coroutine[Any, Any, None]]]
"""What is to be kept at work, by the name that a log gives it; see ``tasks.at_work``."""

_PAUSES = (1.0, 300.0)
_STRANGER_JITTER = 60.0
_SILENT_LOOKS = 3


class Role(enum.Enum):
    """Why a node is there."""

    DEVICE = "updates its program, and rests while nothing is new"
    SEED = "is there to be found, and never rests"
    FETCH = "somebody waits for a release: no stranger is spared at first"


class Peers:
    """One per node: everything that is known of the others.

    Args:
        exchanges: the transfer protocols that are spoken here.
        known: addresses that were reached in an earlier run.
        role: why it is there.

    Attributes:
        census: who is there.
        ways: who may be dialed.
        moves: how often others began to reach us somewhere else.
    """

    def __init__(
        self,
        network: Network,
        settings: Settings,
        emit: Emit,
        exchanges: Exchanges,
        *,
        rng: random.Random,
        known: Iterable[Address] = (),
        role: Role = Role.DEVICE,
    ) -> None:
        self._network = network
        self._settings = settings
        self._emit = emit
        self._exchanges = exchanges
        self._rng = rng
        self._known = tuple(known)
        self._held: PatchInfo | None = None
        self._quiet: tuple[PatchInfo, ...] = ()
        self._wanted: Collection[PatchInfo] | None = None
        self.moves = 0
        self.census = exchanges.census
        self.ways: Ways = EveryWay(0.0 if role is Role.FETCH else _STRANGER_JITTER)
        if network.namespace.meets:
            queue = KnockQueue(rng, on_link=OnLink())
            queue.prove(self._known, time.monotonic())
            self.ways = HolePuncher(queue, self.census, network)
        crowd = lambda: self.census.crowd  # noqa: E731
        around = Surroundings(network, settings, emit, rng, time.monotonic, exchanges.word, crowd, role is Role.DEVICE)
        self._sources = open_sources(around)

    def parts(self) -> Parts:
        """What is to be kept at work for as long as we are there."""
        parts: Parts = {source.name: partial(source.run, self) for source in self._sources}
        parts["ways"] = self.ways.run
        if self._settings.port_mapping:
            parts["port mapping"] = partial(keep_ports_open, self._network.mappers)
            parts["mapped ports"] = self._follow_mappings
        return parts

    def meetings(self, taker: Taker) -> Parts:
        """The meetings with other nodes, where the namespace knows them; ``taker`` decides what is taken there."""
        exchanges, gate = self._exchanges, OfferGate()
        if exchanges.v1 is None:
            return {}
        v1 = MeetingsV1(exchanges.v1, self.ways, taker, self, gate=gate, rng=self._rng, known=self._known)
        offers = OfferExchange(exchanges.v0, self.ways, taker, self, gate=gate, v1=v1)
        return {
            "offers": offers.run,
            "greetings": partial(v1.run, self._pause_between_greetings),
            "neighbours": v1.gather,
        }

    def _pause_between_greetings(self) -> float:
        """At each look while the DHT has not answered for three of them."""
        settings, last, word = self._settings, self._network.dht.last_answer, self._exchanges.word
        look = settings.pause_between_looks(float("inf"))
        is_silent = last is None or time.monotonic() - last > _SILENT_LOOKS * look
        return settings.pause_between_greetings(is_silent, word is not None and word.is_heard)

    def hear(self, found: Found) -> None:
        """A source tells what it found."""
        self.ways.hear(self.census.hear(found, self._network.own_addresses()))

    def announce(self, info: PatchInfo | None, quiet: Sequence[PatchInfo] = ()) -> None:
        """This node serves that now: everybody is told. What is ``quiet`` is told only to who looks for it."""
        if tuple(quiet) != self._quiet:
            self._quiet = tuple(quiet)
            self.want(self._wanted)
        for source in self._sources:
            source.announce(info)
        if info != self._held:
            self._held = info
            self.ways.knock_anew()

    def want(self, releases: Collection[PatchInfo] | None) -> None:
        """These are known of and wanted here; None: nothing is taken here, whatever there is.

        Who wants a release meets in its swarm with who has it; so there we are with what we hold quietly, too.
        """
        self._wanted = releases
        met = releases if not self._quiet else [*(releases or ()), *self._quiet]
        for source in self._sources:
            source.want(met)

    def address_changed(self) -> None:
        """Our address changed: tell every source, and knock at everybody again."""
        self.moves += 1
        self._announce_address()
        self.census.news.tell()

    async def fetch(self, candidate: Candidate, sink: Sink) -> PatchInfo:
        """Fetch from a candidate by the best protocol that it speaks; see ``Fetch``."""
        return await self._exchanges.fetch(candidate, sink)

    def may_help(self, candidate: Candidate) -> bool:
        """See ``Exchanges``."""
        return self._exchanges.may_help(candidate)

    def is_connected(self, address: Address) -> bool:
        """Whether we talk with the node there just now, whoever dialed."""
        return self._exchanges.v1 is not None and self._exchanges.v1.is_connected(address)

    def make_place(self, info: PatchInfo) -> None:
        """See ``Exchanges``."""
        self._exchanges.make_place(info)

    async def help(self, candidate: Candidate) -> None:
        """See ``Exchanges``."""
        await self._exchanges.help(candidate)

    async def _follow_mappings(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for mapper in self._network.mappers:
                tasks.create_task(self._follow(mapper))

    async def _follow(self, mapper: PortMapper) -> None:
        known, told = None, RateLimiter(1 / TOLD_EVERY, TOLD_AT_ONCE)
        while True:
            news, mapping = mapper.news.next, mapper.mapping
            if mapping != known:
                known = mapping
                if mapping is not None:
                    self._emit(PortMapped(mapping.protocol, format_address(mapping.address)))
                if not told.allow(None, time.monotonic()):
                    # Who answers in a router's name may say another port each time.
                    await asyncio.sleep(TOLD_EVERY)
                self._announce_address()
            await news.wait()

    def _announce_address(self) -> None:
        for source in self._sources:
            source.address_changed()
        self.ways.knock_anew()


async def keep_ports_open(mappers: Sequence[PortMapper]) -> None:
    """Have the routers open our ports until cancelled; one's failure ends no other's."""
    async with asyncio.TaskGroup() as tasks:
        for mapper in mappers:
            tasks.create_task(keep_running("port mapping", mapper.run, _PAUSES))
