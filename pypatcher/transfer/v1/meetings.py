"""Whom this node meets by v1, and what comes of it: who has what the other lacks gives it on the spot.

It dials the addresses that answered a knock, as offers do for older nodes, and now and then one peer by chance to hear
what it says: so the owner's word also reaches who has no DHT. design.md "Transport and transfer". Not here: what is
wanted (the updater), and how it travels (``exchange``).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator, Sequence

from pypatcher.addresses import Address, is_lan, is_loopback, machine_of, network_of
from pypatcher.artifact import PatchInfo
from pypatcher.backoff import jittered
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.sources import Found, Listener
from pypatcher.discovery.sources.slots import RECORDS
from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.limits import Limit, WindowLimiter
from pypatcher.nat.ways import Ways
from pypatcher.transfer.gate import OfferGate, Taker
from pypatcher.transfer.v1.exchange import ExchangeV1, OurselvesError
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.version import Version

__all__ = ["MeetingsV1"]

_log = logging.getLogger("pypatcher")
_NEIGHBOURS = 32
"""Of the LAN that are met when a fetch begins."""
_GATHER_AGAIN = 60.0
"""Seconds without a fetch after which neighbours are met for the same release: what fails is begun often."""
_MET_ONCE, _PORTS = 3600.0, 4
"""Seconds in which a neighbour is met once for a release, and of one machine's ports so many."""
_PATIENCE = 3.0
"""Seconds without a request after which who dialed ends a meeting."""


class MeetingsV1:
    """One per node.

    Args:
        ways: whom we may meet.
        taker: see ``Taker``.
        listener: told whom we met, and what it holds.
        known: addresses that were reached in an earlier run.
        gate: which of those who dial us may start a fetch; one for all exchanges.
    """

    def __init__(
        self,
        exchange: ExchangeV1,
        ways: Ways,
        taker: Taker,
        listener: Listener,
        *,
        gate: OfferGate,
        rng: random.Random,
        known: Sequence[Address] = (),
    ) -> None:
        self._exchange = exchange
        self._ways = ways
        self._taker = taker
        self._listener = listener
        self._gate = gate
        self._rng = rng
        self._known = known
        self._gathered = WindowLimiter()
        self._clock = asyncio.get_running_loop().time
        exchange.met = self._met

    def serve(self) -> None:
        """Answer who dials us, for as long as the endpoint is open."""
        self._exchange.endpoint.serve(self._exchange.alpn, self._exchange.answer)

    def suits(self, address: Address) -> bool:
        """Whether the node there is known to speak it."""
        return self._exchange.census.speaks_v1(address) is True

    async def meet(self, address: Address, begun: asyncio.Event | None = None) -> None:
        """Dial a node, say what we have and hear what it has; set ``begun`` when it takes ours."""
        try:
            connection = await self._exchange.dial(address)
        except OurselvesError:
            self._ways.is_us(address)
            return
        except PeerBusyError:
            self._ways.busy(address)
            return
        except PeerError as error:
            _log.debug("no meeting: %s", error)
            self._ways.failed(address)
            return
        self._ways.reached(address)
        session = self._exchange.enter(connection, begun, patience=_PATIENCE)
        try:
            await self._exchange.run(session)
            theirs = max((info.version for info in self._signed(session)), default=Version(0, 0, 0))
        except PeerError as error:
            _log.debug("a meeting with %s ended: %s", address[0], error)
            self._ways.busy(address)
            return
        finally:
            connection.close()
        ours = max((info.version for info in self._exchange.shelf.held), default=Version(0, 0, 0))
        if theirs > ours:
            self._ways.reached(address)
        else:
            self._ways.useless(address)

    async def run(self, pause: Callable[[], float]) -> None:
        """Now and then, after ``pause()`` seconds, hear what one peer says, until cancelled.

        Who takes our release meanwhile, as slowly as it likes, keeps nobody from being heard.
        """
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(jittered(pause(), self._rng))
                address = self._somebody()
                if address is not None:
                    free = asyncio.Event()
                    tasks.create_task(self._meet(address, free))
                    await free.wait()

    async def gather(self) -> None:
        """Whenever a release begins to be fetched, meet the neighbours, until cancelled.

        They may want it as well, and then only one copy of it comes into the LAN.
        """
        swarms, begun, last = self._exchange.swarms, None, 0.0
        async with asyncio.TaskGroup() as tasks:
            while True:
                news = swarms.news.next
                fetching, _ = swarms.say()
                is_new = fetching != begun or self._clock() - last >= _GATHER_AGAIN
                if fetching is not None and is_new:
                    for address in self._not_met(fetching):
                        tasks.create_task(self.meet(address))
                if fetching is not None:
                    begun, last = fetching, self._clock()
                await news.wait()

    def _not_met(self, info: PatchInfo) -> Iterator[Address]:
        """Neighbours to be met for a release, by chance; each is counted."""
        release, now = info.release_id, self._clock()
        near = [each for each in self._exchange.census.proven if is_lan(each)]
        self._rng.shuffle(near)
        left = _NEIGHBOURS
        for address in near:
            limits = [Limit((release, address), 1, _MET_ONCE)]
            if not is_loopback(address):
                limits.append(Limit((release, machine_of(address)), _PORTS, _MET_ONCE))
            if left and not self._exchange.is_connected(address) and self._gathered.allows(limits, now):
                self._gathered.count(limits, now)
                left -= 1
                yield address

    async def _meet(self, address: Address, free: asyncio.Event) -> None:
        try:
            await self.meet(address, free)
        finally:
            free.set()

    def _somebody(self) -> Address | None:
        """By chance one that was met in an earlier run, or that proved to be of the namespace, as neighbours do, too.

        No stranger: whoever names an address must not have it dialed by a whole fleet, nor one in a LAN by those there.
        """
        groups = [self._known, tuple(self._exchange.census.proven)]
        places = [group for group in groups if group]
        if not places:
            return None
        # One that answers from a thousand ports is not drawn a thousand times as often.
        networks = dict[str, list[Address]]()
        for address in self._rng.choice(places):
            networks.setdefault(network_of(address), []).append(address)
        return self._rng.choice(self._rng.choice(list(networks.values())))

    async def _met(self, session: SessionV1) -> None:
        """A peer said what it holds."""
        address, peer = session.connection.peer_address, session.connection.peer_id
        signed = self._signed(session)
        source = "a meeting" if session.connection.dialed else "an offer"
        candidates = [Candidate(info, peer, address, source, speaks_v1=True) for info in signed]
        fetching = None if session.hello is None else session.hello.fetching
        if fetching is not None and fetching not in signed and fetching.is_signed_by(self._exchange.namespace.owner):
            candidates.append(Candidate(fetching, peer, address, source, speaks_v1=True, is_partial=True))
        self._ways.reached(address)
        self._exchange.census.meet(address, signed)
        if session.connection.dialed:
            self._listener.hear(Found(RECORDS, candidates=candidates))
            return
        for candidate in (each for each in candidates if not each.is_partial):
            if await self._would_take(candidate):
                if self._gate.admit(address, self._clock()):
                    await self._taker.take(candidate, self._exchange.over(session))
                return
        self._listener.hear(Found(RECORDS, candidates=candidates))

    async def _would_take(self, candidate: Candidate) -> bool:
        try:
            return await self._taker.would_take(candidate.info, candidate.address)
        except PeerBusyError as error:
            _log.debug("not now: %s", error)
            return False

    def _signed(self, session: SessionV1) -> list[PatchInfo]:
        """What a peer says to hold, the newest first, as far as the owner signed it."""
        held = () if session.hello is None else session.hello.held
        owner = self._exchange.namespace.owner
        return sorted((info for info in held if info.is_signed_by(owner)), key=lambda info: info.version, reverse=True)
