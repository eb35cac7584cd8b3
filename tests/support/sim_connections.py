"""Connections between simulated devices: the real streams and everything above them, without QUIC below.

A handshake takes one round trip and needs the way through both routers, as that of QUIC does; bytes arrive in order
after the latency of the connection. Not modelled: congestion, admission, migration. A release takes the time that its
holder's share of the upload takes (``SimExchange``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.keys import KeyPair
from pypatcher.transfer.download import Fetch
from pypatcher.transfer.exchange import Sink
from pypatcher.transfer.v1.exchange import ExchangeV1
from pypatcher.transfer.v1.session import SessionV1
from pypatcher.transport.stream import Stream
from tests.support.sim_loop import SimLoop
from tests.support.sim_network import HEADERS, SimHost, SimNetwork

__all__ = ["SimConnection", "SimEndpoint", "SimExchange"]

_HANDSHAKE = 2 * 1250 + 1200
"""Bytes that each side sends for one, headers included."""
_UPLOADS = 4
_UNIDIRECTIONAL, _BY_DIALED = 2, 1


class SimConnection:
    """One end of a connection; see ``transport.Connection``."""

    def __init__(self, endpoint: SimEndpoint, peer_address: Address, peer_id: bytes, delay: float, *, dialed: bool):
        self.dialed = dialed
        self.peer_address = peer_address
        self.peer_id = peer_id
        self.other = self
        self.session: SessionV1 | None = None
        self.endpoint = endpoint
        self._delay = delay
        self._loop = cast("SimLoop", asyncio.get_running_loop())
        self._coming: deque[tuple[str, int, bytes, bool]] = deque()
        self._streams: dict[int, Stream] = {}
        self._opened = {False: 0, True: 0}
        self._waiting: dict[bool, asyncio.Queue[Stream]] = {False: asyncio.Queue(), True: asyncio.Queue()}
        self._closed = asyncio.Event()

    @property
    def is_closed(self) -> bool:
        """Whether either side ended it."""
        return self._closed.is_set()

    async def open_stream(self) -> Stream:
        """See ``Connection``."""
        return self._open(unidirectional=False)

    async def open_uni(self) -> Stream:
        """See ``Connection``."""
        return self._open(unidirectional=True)

    async def accept_stream(self) -> Stream:
        """See ``Connection``."""
        return await self._accept(unidirectional=False)

    async def accept_uni(self) -> Stream:
        """See ``Connection``."""
        return await self._accept(unidirectional=True)

    async def wait_closed(self) -> None:
        """See ``Connection``."""
        await self._closed.wait()

    def keep_place(self) -> None:
        """Places are not counted."""

    def close(self, code: int = 0, reason: str = "") -> None:
        """See ``Connection``."""
        if not self.is_closed:
            self._end()
            self._tell("close", 0, b"", True)

    # What streams ask (StreamOwner).

    def send(self, stream_id: int, data: bytes, end: bool) -> None:
        self._tell("data", stream_id, data, end)

    def unacknowledged(self, stream_id: int) -> int:
        return 0

    def unsent(self, stream_id: int) -> int:
        return 0

    def all_sent_arrived(self, stream_id: int) -> bool:
        return True

    def grant(self, stream_id: int, offset: int) -> None:
        pass

    def abort(self, stream_id: int, code: int, sending: bool, receiving: bool) -> None:
        self._tell("abort", stream_id, b"", True)

    def watch(self, stream: Stream) -> None:
        self._loop.call_soon(stream.progressed)

    def nudge(self, seconds: float = 0.0) -> bool:
        return True

    def _tell(self, what: str, stream_id: int, data: bytes, end: bool) -> None:
        self.endpoint.host.sent += len(data) + HEADERS + 30
        self.other._coming.append((what, stream_id, data, end))
        self._loop.post(self._delay, self.other._arrive)

    def _arrive(self) -> None:
        what, stream_id, data, end = self._coming.popleft()
        self.endpoint.host.received += len(data) + HEADERS + 30
        if self.is_closed:
            return
        if what == "close":
            self._end()
        elif what == "data":
            stream = self._streams.get(stream_id)
            if stream is None:
                is_uni = bool(stream_id & _UNIDIRECTIONAL)
                stream = self._streams[stream_id] = Stream(cast("Any", self), stream_id, True, not is_uni)
                self._waiting[is_uni].put_nowait(stream)
            stream.feed(data, end)
        elif stream_id in self._streams:
            self._streams[stream_id].fail(PeerError("the peer reset this stream"))

    def _end(self) -> None:
        self._closed.set()
        self.endpoint.connections.discard(self)
        for stream in self._streams.values():
            stream.fail(PeerError("the connection ended"))
        for accepted in self._waiting.values():
            accepted.put_nowait(cast("Stream", None))  # wakes who waits for one

    def _open(self, unidirectional: bool) -> Stream:
        if self.is_closed:
            raise PeerError("the connection ended")
        number = self._opened[unidirectional]
        self._opened[unidirectional] += 1
        stream_id = 4 * number + _UNIDIRECTIONAL * unidirectional + _BY_DIALED * (not self.dialed)
        stream = self._streams[stream_id] = Stream(cast("Any", self), stream_id, not unidirectional, True)
        return stream

    async def _accept(self, unidirectional: bool) -> Stream:
        stream = None if self.is_closed else await self._waiting[unidirectional].get()
        if stream is None:
            self._waiting[unidirectional].put_nowait(cast("Stream", None))
            raise PeerError("the connection ended")
        return stream


class SimEndpoint:
    """Where one device dials and is dialed; see ``transport.Endpoint``.

    Attributes:
        addresses: what its sockets are bound to; behind a router an address of the LAN.
        connections: those that are open.
    """

    def __init__(self, network: SimNetwork, host: SimHost, identity: KeyPair, bound: Address) -> None:
        self.host = host
        host.endpoint = self
        self.node_id = identity.public
        self.addresses = [bound]
        self._network = network
        self._serving: dict[str, Callable[[Any], Awaitable[None]]] = {}
        self.connections: set[SimConnection] = set()
        self._answering: set[asyncio.Task[None]] = set()

    def serve(self, alpn: str, answer: Callable[[Any], Awaitable[None]]) -> None:
        """See ``Endpoint``."""
        self._serving[alpn] = answer

    def stop_serving(self, alpn: str) -> None:
        """See ``Endpoint``."""
        self._serving.pop(alpn, None)

    def address_changed(self) -> None:
        """Addresses do not change here."""

    async def connect(
        self, address: Address, *, node_id: bytes | None = None, alpn: str, timeout: float = 10.0
    ) -> SimConnection:
        """See ``Endpoint``."""
        network, host = self._network, self.host
        host.sent += _HANDSHAKE
        host.open(address, asyncio.get_running_loop().time())
        delay = network.delay(host)
        await asyncio.sleep(2 * delay)
        found = network.route(host, address)
        peer: SimEndpoint | None = None if found is None else found[0].endpoint
        if found is None or peer is None or alpn not in peer._serving:
            await asyncio.sleep(max(0.0, timeout - 2 * delay))
            raise PeerError("nobody answers")
        host.received += _HANDSHAKE
        peer.host.sent += _HANDSHAKE
        peer.host.received += _HANDSHAKE
        ours = SimConnection(self, address, peer.node_id, delay, dialed=True)
        theirs = SimConnection(peer, found[1], self.node_id, delay, dialed=False)
        ours.other, theirs.other = theirs, ours
        self.connections.add(ours)
        peer._answer(theirs, peer._serving[alpn])
        return ours

    def close(self) -> list[asyncio.Task[None]]:
        """End everything; what is still to be waited for."""
        self.host.endpoint = None
        for connection in sorted(self.connections, key=lambda each: each.peer_id):
            connection.close()
        return list(self._answering)

    def _answer(self, connection: SimConnection, answer: Callable[[Any], Awaitable[None]]) -> None:
        async def talk() -> None:
            try:
                await answer(connection)
            except PeerError:
                pass
            finally:
                connection.close()

        self.connections.add(connection)
        task = asyncio.get_running_loop().create_task(talk())
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)


class SimExchange(ExchangeV1):
    """The real v1 exchange; only a release's bytes are not sent: a fetch takes the time that they would take.

    Attributes:
        uploads: how many take a release of ours now.
        rate: bytes a second that all of those get together.
    """

    uploads = 0
    rate = 1 << 20

    def enter(self, connection: Any, begun: asyncio.Event | None = None, **options: Any) -> SessionV1:
        """See ``ExchangeV1``."""
        connection.session = session = super().enter(connection, begun, **options)
        return session

    def over(self, session: SessionV1) -> Fetch:
        """See ``ExchangeV1``."""
        connection = cast("SimConnection", session.connection)

        async def fetch(candidate: Candidate, sink: Sink) -> PatchInfo:
            info, theirs = candidate.info, connection.other.session
            if theirs is None or connection.is_closed:
                raise PeerError("the connection ended")
            holder = cast("SimExchange", theirs._host)
            if info not in holder.shelf.held:
                raise PeerError("it does not have that release")
            if holder.uploads >= _UPLOADS:
                raise PeerBusyError("it serves others")
            holder.uploads += 1
            holder._gives(theirs)
            try:
                async with session.busy(), theirs.busy():
                    sink.received(1, info.file_size)
                    await asyncio.sleep(info.file_size * holder.uploads / holder.rate)
            finally:
                holder.uploads -= 1
            if connection.is_closed:
                raise PeerError("it went away")
            connection.other.endpoint.host.sent += info.file_size
            connection.endpoint.host.received += info.file_size
            sink.received(info.file_size, info.file_size)
            return info

        return fetch
