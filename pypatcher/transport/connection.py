"""One QUIC connection for coroutines: its streams, its one timer, its end. The endpoint moves its datagrams.

design.md "Transport and transfer". Which side dialed and which side fetches are independent: both open and accept
streams. A connection owns no task; whatever ends it fails every wait on it and on its streams with a ``PeerError``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from pypatcher.addresses import Address
from pypatcher.errors import PeerError
from pypatcher.established import (
    IdIssued,
    IdRetired,
    StreamData,
    StreamReset,
    StreamStopped,
    Terminated,
    Train,
)
from pypatcher.transport.close import CloseCode, close_error
from pypatcher.transport.quic import RawKeyConnection
from pypatcher.transport.source_address import source_for
from pypatcher.transport.stream import Stream

__all__ = ["Connection"]

_WAITING_STREAMS = 4
_BATCH = 128
"""Datagrams that are opened together, once so many came; what waits for that, and a train more, is less memory than the
socket's buffer."""
_log = logging.getLogger("pypatcher.transport")


class ConnectionHost(Protocol):
    """What a connection needs of its endpoint."""

    def wake(self, connection: Connection) -> None: ...
    def add_route(self, connection_id: bytes, connection: Connection) -> None: ...
    def remove_route(self, connection_id: bytes, connection: Connection) -> None: ...
    def send_again(self, connection: Connection, trains: list[Train]) -> None: ...
    def established(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...
    def ended(self, connection: Connection) -> None: ...
    def kept(self, connection: Connection) -> None: ...


class Connection:
    """A connection to one peer, whose key was proved in the handshake.

    From ``feed`` to ``abandon`` it is the endpoint's to call.
    """

    def __init__(self, quic: RawKeyConnection, host: ConnectionHost, peer_address: Address, dialed: bool) -> None:
        """Made by the endpoint alone. ``dialed`` says that this side opened it."""
        self.dialed = dialed
        self._quic = quic
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._first_address = peer_address
        self._alpn = ""
        self._streams: dict[int, Stream] = {}
        self._writers: set[Stream] = set()
        self._waiting: dict[bool, deque[Stream]] = {False: deque(), True: deque()}
        self._accepting: dict[bool, asyncio.Future[None] | None] = {False: None, True: None}
        self._established: asyncio.Future[None] = self._loop.create_future()
        self._closed = asyncio.Event()
        self._failure: PeerError | None = None
        self._terminated = False
        self._by_peer = False
        self._timer: asyncio.TimerHandle | None = None
        self._farewell: list[Train] = []
        self._late_datagrams = 0
        self._came: list[Train] = []
        self._came_count = 0

    @property
    def peer_id(self) -> bytes:
        """The peer's node id, 32 bytes.

        Raises:
            PeerError: the handshake is not complete.
        """
        peer_id = self._quic.peer_id
        if peer_id is None:
            raise PeerError("the peer has not shown its key yet")
        return peer_id

    @property
    def peer_address(self) -> Address:
        """Where the peer is, as far as it proved that; behind a router it may change. What limits count by."""
        return self._quic.proved_address or self._first_address

    @property
    def alpn(self) -> str:
        """The protocol that both sides agreed on."""
        return self._alpn

    @property
    def is_established(self) -> bool:
        """Whether the handshake is complete, and neither side ended it."""
        return self._established.done() and self._failure is None

    @property
    def was_heard(self) -> bool:
        """Whether anything of the peer came that could be read."""
        return self._quic.peer_id is not None or self._established.done()

    @property
    def newest(self) -> tuple[int, ...]:
        """See ``RawKeyConnection.newest``."""
        return self._quic.newest

    @property
    def is_closed(self) -> bool:
        """Whether either side ended it."""
        return self._failure is not None

    @property
    def peer_is_done(self) -> bool:
        """Whether it ended because the peer said that it has all it wanted."""
        closing = self._quic.closing if self._by_peer else None
        return closing is not None and closing[:2] == (CloseCode.DONE, True)

    async def open_stream(self) -> Stream:
        """A new bidirectional stream.

        Raises:
            PeerError: the connection ended.
        """
        return self._open(unidirectional=False)

    async def open_uni(self) -> Stream:
        """A new stream that only this side writes.

        Raises:
            PeerError: the connection ended.
        """
        return self._open(unidirectional=True)

    async def accept_stream(self) -> Stream:
        """The next bidirectional stream that the peer opened and wrote to.

        Raises:
            PeerError: the connection ended.
        """
        return await self._accept(unidirectional=False)

    async def accept_uni(self) -> Stream:
        """The next stream that only the peer writes.

        Raises:
            PeerError: the connection ended.
        """
        return await self._accept(unidirectional=True)

    def close(self, code: int = CloseCode.DONE, reason: str = "") -> None:
        """End the connection now and tell the peer why; what was not acknowledged may be lost."""
        if self._failure is None:
            self._quic.close(error_code=code, reason_phrase=reason)
            self._end(PeerError(f"this side closed the connection: {reason or CloseCode(code).name.lower()}"))
            self._host.wake(self)

    def refuse(self) -> None:
        """Others have its place before its handshake was finished: who thinks that it was asks elsewhere at once."""
        if self._failure is None:
            self._quic.close(error_code=QuicErrorCode.CONNECTION_REFUSED, frame_type=QuicFrameType.PADDING)
            self._end(PeerError("there was no place for it"))
            self._host.wake(self)

    def keep_place(self) -> None:
        """Its peer asked rightly. Who dialed us and has not done so 15 s after its first packet is sent away, earlier
        if others want its place: whoever serves a protocol calls this at the peer's first valid request."""
        self._host.kept(self)

    async def wait_closed(self) -> None:
        """Wait until either side ended the connection."""
        await self._closed.wait()

    async def wait_established(self) -> None:
        """Wait until the handshake is complete.

        Raises:
            PeerError: it failed.
        """
        await asyncio.shield(self._established)

    # What streams ask (StreamOwner).

    def send(self, stream_id: int, data: bytes, end: bool) -> None:
        """Queue bytes of a stream."""
        if self._failure is None:
            self._quic.streams.write(stream_id, data, end)
            self._host.wake(self)

    def unacknowledged(self, stream_id: int) -> int:
        """Bytes of a stream that are queued or on their way."""
        return self._quic.streams.unacknowledged(stream_id)

    def unsent(self, stream_id: int) -> int:
        """Bytes of a stream that are queued and never left."""
        return self._quic.streams.unsent(stream_id)

    def all_sent_arrived(self, stream_id: int) -> bool:
        """Whether the peer has all of a finished stream."""
        # Also when the connection ended meanwhile: what arrived is forgotten, and nobody would fail its last wait.
        return self._quic.streams.arrived(stream_id)

    def grant(self, stream_id: int, offset: int) -> None:
        """Let the peer send a stream up to ``offset``."""
        if self._failure is None and self._quic.streams.grant(stream_id, offset):
            self._host.wake(self)

    def abort(self, stream_id: int, code: int, sending: bool, receiving: bool) -> None:
        """Give up the directions of a stream that are still open."""
        if self._failure is None:
            if sending:
                self._quic.streams.reset(stream_id, code)
            if receiving:
                self._quic.streams.stop(stream_id, code)
            self._host.wake(self)

    def watch(self, stream: Stream) -> None:
        """Tell ``stream`` about the next acknowledgement."""
        self._writers.add(stream)

    def nudge(self, seconds: float = 0.0) -> bool:
        """Send the peer something that it must answer: it learns our address, and our router keeps it open.

        Returns:
            Whether it was silent for so many seconds, though there is a way to it.
        """
        if not self.is_established:
            return False
        self._quic.streams.ping()
        self._host.wake(self)
        return self._loop.time() - self._quic.heard >= seconds and source_for(self.peer_address) is not None

    def feed(self, train: Train, now: float) -> None:
        """Take what came joined; ``pump`` is called after the batch that it came in, and opens most of it together."""
        count = -(-len(train[0]) // train[1])
        if self._farewell:
            # The peer has not heard our end yet: say it again, ever more rarely (RFC 9000 section 10.2.1).
            before, self._late_datagrams = self._late_datagrams, self._late_datagrams + count
            if before.bit_length() != self._late_datagrams.bit_length():
                self._host.send_again(self, self._farewell)
            return
        self._came.append(train)
        self._came_count += count
        if self._quic.established is None or self._came_count >= _BATCH:
            self.open_batch(now)

    def open_batch(self, now: float) -> None:
        """Open what was fed and waits for more."""
        came, self._came, self._came_count = self._came, [], 0
        if came:
            self._quic.receive(came, now)

    def pump(self, now: float) -> list[Train]:
        """Act on what arrived, and return what to send."""
        if self._terminated:
            return []
        self.open_batch(now)
        self._handle_events()
        trains = self._quic.trains_to_send(now)
        self._handle_events()
        if self._quic.closing is not None:
            self._farewell = self._farewell or trains
            if self._failure is None:
                self._by_peer = True
                self._end(close_error(*self._quic.closing))
        else:
            self._forget_streams()
            if self._writers:
                watching, self._writers = self._writers, set()
                for stream in watching:
                    stream.progressed()
        if not self._terminated:
            self._arm(self._quic.get_timer())
        return trains

    def stateless_reset(self) -> None:
        """The peer says that it knows nothing of this connection."""
        self._quic.stateless_reset()
        self._host.wake(self)

    @property
    def reset_tokens(self) -> list[bytes]:
        """The tokens by which a stateless reset of this connection is known."""
        return self._quic.reset_tokens

    def abandon(self, error: PeerError) -> None:
        """Forget the connection without a word to the peer."""
        self._end(error)
        self._terminate()

    def _open(self, unidirectional: bool) -> Stream:
        if self._failure is not None:
            raise self._failure
        stream_id = self._quic.streams.open(unidirectional)
        stream = self._streams[stream_id] = Stream(self, stream_id, readable=not unidirectional, writable=True)
        return stream

    async def _accept(self, unidirectional: bool) -> Stream:
        waiting = self._waiting[unidirectional]
        while not waiting:
            if self._failure is not None:
                raise self._failure
            future: asyncio.Future[None] = self._loop.create_future()
            self._accepting[unidirectional] = future
            await future
        return waiting.popleft()

    def _handle_events(self) -> None:
        while (event := self._quic.next_event()) is not None:
            match event:
                case StreamData() | StreamReset() | StreamStopped():
                    self._handle_stream(event)
                case IdIssued(value=connection_id):
                    self._host.add_route(connection_id, self)
                case IdRetired(value=connection_id):
                    self._host.remove_route(connection_id, self)
                case events.HandshakeCompleted(alpn_protocol=alpn):
                    self._alpn = alpn or ""
                    if not self._established.done():
                        self._established.set_result(None)
                    self._host.established(self)
                case events.ConnectionTerminated() | Terminated() if self._quic.closing is not None:
                    self._end(close_error(*self._quic.closing))
                    self._terminate()

    def _handle_stream(self, event: StreamData | StreamReset | StreamStopped) -> None:
        if self._failure is not None:
            return  # nobody would fail the waits on a stream that came behind the end
        stream = self._streams.get(event.stream_id)
        match event:
            case StreamData(data=data, end=end):
                stream = stream or self._accepted(event.stream_id)
                if stream is not None:
                    stream.feed(data, end)
            case StreamReset(code=code) if stream is not None:
                stream.fail_read(_stream_error(code))
            case StreamStopped(code=code) if stream is not None:
                stream.fail_write(_stream_error(code))

    def _accepted(self, stream_id: int) -> Stream | None:
        unidirectional = bool(stream_id & 2)
        waiting = self._waiting[unidirectional]
        if len(waiting) >= _WAITING_STREAMS:
            self.close(CloseCode.PROTOCOL, "too many streams")
            return None
        stream = Stream(self, stream_id, readable=True, writable=not unidirectional)
        self._streams[stream_id] = stream
        waiting.append(stream)
        self._wake_acceptor(unidirectional)
        return stream

    def _wake_acceptor(self, unidirectional: bool) -> None:
        future = self._accepting[unidirectional]
        if future is not None and not future.done():
            future.set_result(None)

    def _forget_streams(self) -> None:
        # Not before the state machine forgot one too: what still arrives for it must not look like a new stream.
        for stream_id, stream in list(self._streams.items()):
            if stream.done and not self._quic.streams.knows(stream_id):
                del self._streams[stream_id]

    def _arm(self, at: float | None) -> None:
        timer = self._timer
        if timer is not None:
            # A timer that fires too early costs less than moving it at every packet.
            if at is not None and timer.when() <= at:
                return
            timer.cancel()
        self._timer = None if at is None else self._loop.call_at(at, self._timer_fired)

    def _timer_fired(self) -> None:
        self._timer = None
        now = self._loop.time()
        at = self._quic.get_timer()
        if at is not None and now >= at:
            try:
                self._quic.handle_timer(now)
            except Exception:
                # Without its timer it would never end, and keep its place and who waits on it.
                _log.debug("the timer of a connection broke", exc_info=True)
                self.abandon(PeerError("the connection broke"))
                return
            self._host.wake(self)
        else:
            self._arm(at)

    def _end(self, error: PeerError) -> None:
        if self._failure is not None:
            return
        self._failure = error
        for stream in self._streams.values():
            stream.fail(error)
        self._streams.clear()
        self._writers.clear()
        for unidirectional in (False, True):
            self._waiting[unidirectional].clear()
            self._wake_acceptor(unidirectional)
        if not self._established.done():
            self._established.set_exception(error)
            # Nobody may be waiting any more; the error is told to whoever asks.
            self._established.exception()
        self._closed.set()
        self._host.closed(self)

    def _terminate(self) -> None:
        if not self._terminated:
            self._terminated = True
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self._host.ended(self)


def _stream_error(code: int) -> PeerError:
    name = CloseCode(code).name.lower() if code in set(CloseCode) else f"0x{code:x}"
    return PeerError(f"the peer gave the stream up: {name}")
