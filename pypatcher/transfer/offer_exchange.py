"""Exchanges offers with other nodes of the namespace: each says what it has, and the one that lacks it fetches.

Dials the addresses that answered a knock, and answers those who dial us. A fetch that a stranger's offer starts costs
much: it is limited per /24 or /48 and hour; nodes of the LAN may come back at once. design.md "Transport and transfer".
Not here: what is wanted (the updater), and what is served (``shelf``).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.discovery.sources import Found, Listener
from pypatcher.discovery.sources.slots import RECORDS
from pypatcher.errors import ArtifactError, PatcherError, PeerBusyError, PeerError
from pypatcher.nat.ways import Ways
from pypatcher.transfer.exchange_v0 import ExchangeV0
from pypatcher.transfer.gate import OfferGate, Taker
from pypatcher.transfer.offer import receive_offer, send_offer
from pypatcher.transfer.v1.meetings import MeetingsV1
from pypatcher.transport import CloseCode, Connection

__all__ = ["OfferExchange"]

_log = logging.getLogger("pypatcher")
_DIAL_SECONDS = 10.0
_AT_ONCE = 4
_ANSWER_SECONDS = 15.0
_FAREWELL_SECONDS = 5.0


class OfferExchange:
    """One per node, in a namespace whose nodes meet: dials with offers, and answers those of others.

    Args:
        exchange: gives what we have over a connection, whoever dialed, and fetches so.
        ways: whom we may meet.
        taker: see ``Taker``.
        listener: told whom we met that has something newer than we.
        gate: which offers may start a fetch; one for all exchanges.
        v1: meets those who speak it; None: nobody here does.
    """

    def __init__(
        self,
        exchange: ExchangeV0,
        ways: Ways,
        taker: Taker,
        listener: Listener,
        *,
        gate: OfferGate | None = None,
        v1: MeetingsV1 | None = None,
    ) -> None:
        self._v1 = v1
        self._exchange = exchange
        self._alpn = exchange.namespace.offer_alpn or ""
        self._ways = ways
        self._taker = taker
        self._listener = listener
        self._gate = gate or OfferGate()

    async def run(self) -> None:
        """Meet those to whom ways are open, and who dials us, until cancelled.

        At most 4 at once, and those who take our release.
        """
        endpoint = self._exchange.endpoint
        endpoint.serve(self._alpn, self.answer)
        if self._v1 is not None:
            self._v1.serve()
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(_AT_ONCE):
                    tasks.create_task(self._keep_meeting(tasks))
        finally:
            endpoint.stop_serving(self._alpn)

    async def answer(self, connection: Connection) -> None:
        """Somebody dialed us with an offer."""
        try:
            offered = await receive_offer(connection, self._exchange.namespace.owner)
            connection.keep_place()
            address = connection.peer_address
            self._ways.reached(address)
            if offered is not None and await self._take(offered, connection):
                held = self._exchange.shelf.info
                if held is None or held.version < offered.version:
                    raise PeerBusyError("what was offered could not be fetched")
                return
            await send_offer(connection, self._exchange.shelf.info)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_FAREWELL_SECONDS):
                    await connection.wait_closed()
            if offered is not None:
                self._compare(offered, connection.peer_id, address)
        except PeerBusyError as error:
            _log.debug("not now: %s", error)
            connection.close(CloseCode.BUSY)
        except (PatcherError, OSError) as error:
            _log.debug("an offer from %s ended: %s", connection.peer_address[0], error)

    async def meet(self, address: Address, begun: asyncio.Event | None = None) -> None:
        """Dial a node, say what we have, and give it or hear what the node has; set ``begun`` when it takes ours."""
        try:
            connection = await self._exchange.endpoint.connect(
                address, node_id=None, alpn=self._alpn, timeout=_DIAL_SECONDS
            )
        except PeerBusyError:
            self._ways.busy(address)
            return
        except PeerError as error:
            _log.debug("no meeting: %s", error)
            self._ways.failed(address)
            return
        try:
            if connection.peer_id == self._exchange.endpoint.node_id:
                self._ways.is_us(address)
                return
            self._ways.reached(address)
            self._compare(await self._offer(connection, begun), connection.peer_id, address)
        except (PeerError, ArtifactError) as error:
            _log.debug("a meeting with %s ended: %s", address[0], error)
            self._ways.busy(address)
        finally:
            connection.close(CloseCode.DONE)

    async def _keep_meeting(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            address = await self._ways.next_open()
            if not self._ways.is_holder(address):
                # Who takes our release may be slow about it for hours: the upload limits bound those, so we go on.
                free = asyncio.Event()
                tasks.create_task(self._meet(address, free))
                await free.wait()

    async def _meet(self, address: Address, free: asyncio.Event) -> None:
        try:
            if self._v1 is not None and self._v1.suits(address):
                await self._v1.meet(address, free)
            else:
                await self.meet(address, free)
        finally:
            free.set()

    async def _offer(self, connection: Connection, begun: asyncio.Event | None) -> PatchInfo | None:
        """Offer what we have; what the other side has, or None when it fetched ours or has nothing.

        Raises:
            PeerError: neither, or it could not fetch ours to the end.
        """
        ours = self._exchange.shelf.info
        await send_offer(connection, ours)
        answer = asyncio.create_task(receive_offer(connection, self._exchange.namespace.owner, None))
        upload = asyncio.create_task(self._upload(connection, ours is not None, begun))
        try:
            await asyncio.wait((answer, upload), return_when=asyncio.FIRST_COMPLETED)
            if upload.done() and upload.result():
                return None
            if not answer.done():
                raise PeerError("it has neither said what it has nor taken what we have")
            return answer.result()
        finally:
            for task in (answer, upload):
                task.cancel()
            await asyncio.gather(answer, upload, return_exceptions=True)

    async def _upload(self, connection: Connection, has_something: bool, begun: asyncio.Event | None) -> bool:
        if has_something:
            return await self._exchange.give(connection, begun)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                await connection.wait_closed()
        return False

    async def _take(self, offered: PatchInfo, connection: Connection) -> bool:
        address = connection.peer_address
        if not await self._taker.would_take(offered, address):
            return False
        if not self._gate.admit(address, time.monotonic()):
            raise PeerBusyError("an offer from that network was taken within the last hour")
        candidate = Candidate(offered, connection.peer_id, address, "an offer")
        await self._taker.take(candidate, self._exchange.over(connection))
        return True

    def _compare(self, theirs: PatchInfo | None, peer_id: bytes, address: Address) -> None:
        ours = self._exchange.shelf.info
        if theirs is not None and (ours is None or theirs.version > ours.version):
            self._listener.hear(Found(RECORDS, candidates=[Candidate(theirs, peer_id, address, "a meeting")]))
            self._ways.reached(address)
        else:
            self._ways.useless(address)
