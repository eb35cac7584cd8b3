"""One QUIC stream for a coroutine: bounded on both sides, every wait cancellable. Knows no protocol.

What was received and not read is bounded by the window that the peer was granted, which follows the reader; what was
written and not acknowledged is bounded by ``WRITE_LIMIT``. RFC 9000 sections 2 to 4.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

from pypatcher.addresses import Address
from pypatcher.errors import PeerError

__all__ = ["DEFAULT_WINDOW", "WRITE_LIMIT", "Stream"]

DEFAULT_WINDOW = 16384
"""Bytes that a peer may send ahead of the reader, unless ``expect_much`` raised it."""

WRITE_LIMIT = 1 << 20
"""Bytes that a writer may be ahead of the peer's acknowledgements."""

_SMALL_CHUNK = 512
"""What is received in pieces smaller than this is joined."""


class StreamOwner(Protocol):
    """What a stream needs of its connection."""

    @property
    def peer_address(self) -> Address: ...
    def send(self, stream_id: int, data: bytes, end: bool) -> None: ...
    def unacknowledged(self, stream_id: int) -> int: ...
    def unsent(self, stream_id: int) -> int: ...
    def all_sent_arrived(self, stream_id: int) -> bool: ...
    def grant(self, stream_id: int, offset: int) -> None: ...
    def abort(self, stream_id: int, code: int, sending: bool, receiving: bool) -> None: ...
    def watch(self, stream: Stream) -> None: ...
    def nudge(self, seconds: float) -> bool: ...


class Stream:
    """A bidirectional or unidirectional stream. One reader and one writer at a time.

    From ``feed`` on it is the connection's to call.
    """

    def __init__(self, owner: StreamOwner, stream_id: int, readable: bool, writable: bool) -> None:
        """Made by the connection alone."""
        self.id = stream_id
        self._owner = owner
        self._chunks: deque[bytes] = deque()
        self._read_offset = 0
        self._wake_below = 0
        self._window = DEFAULT_WINDOW
        self._ended = not readable
        self._finished = not writable
        self._read_failure: PeerError | None = None
        self._write_failure: PeerError | None = None
        self._written = 0
        self._never_left = 0
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more can be read or has to be sent."""
        received = self._read_failure is not None or (self._ended and not self._chunks)
        sent = self._write_failure is not None or self._finished
        return received and sent

    def expect_much(self, window: int) -> None:
        """Let the peer send up to ``window`` bytes ahead of the reader: what a fast transfer needs."""
        self._window = max(self._window, window)
        self._owner.grant(self.id, self._read_offset + self._window)

    async def read(self, limit: int) -> bytes:
        """The next 1 to ``limit`` bytes, or ``b""`` at the end of the stream.

        Raises:
            PeerError: the peer reset the stream, or the connection ended.
        """
        while not self._chunks:
            if self._read_failure is not None:
                raise self._read_failure
            if self._ended:
                return b""
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
        data = self._take(limit)
        self._read_offset += len(data)
        if not self._ended:
            self._owner.grant(self.id, self._read_offset + self._window)
        return data

    async def read_exactly(self, count: int) -> bytes:
        """The next ``count`` bytes.

        Raises:
            PeerError: the stream ended before, was reset, or the connection ended.
        """
        parts = []
        missing = count
        while missing:
            part = await self.read(missing)
            if not part:
                raise PeerError(f"the peer ended a stream {missing} bytes early")
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    async def write(self, data: bytes | memoryview, ahead: int = WRITE_LIMIT) -> None:
        """Hand over ``data``, waiting while the peer is ``ahead`` bytes behind.

        Raises:
            PeerError: the peer stopped the stream, or the connection ended.
        """
        view = memoryview(data)
        while view:
            if self._write_failure is not None:
                raise self._write_failure
            room = ahead - self._owner.unacknowledged(self.id)
            # Waking a writer for every packet that was acknowledged would cost more than it gives.
            needed = min(len(view), ahead // 4)
            if room < needed:
                await self._wait_for_progress(ahead - needed)
                continue
            self._owner.send(self.id, bytes(view[:room]), False)
            self._written += len(view[:room])
            view = view[room:]
        if self._write_failure is not None:
            raise self._write_failure

    async def finish(self) -> None:
        """Say that nothing more will be written."""
        if self._write_failure is not None:
            raise self._write_failure
        if not self._finished:
            self._finished = True
            self._owner.send(self.id, b"", True)

    async def delivered(self) -> None:
        """Wait until the peer acknowledged all of a finished stream.

        Raises:
            PeerError: the peer stopped the stream, or the connection ended before.
        """
        while not self._owner.all_sent_arrived(self.id):
            if self._write_failure is not None:
                raise self._write_failure
            await self._wait_for_progress(WRITE_LIMIT)

    @property
    def unacknowledged(self) -> int:
        """Bytes written that the peer has not acknowledged yet."""
        return self._owner.unacknowledged(self.id)

    @property
    def written(self) -> int:
        """Bytes that were handed over, whether they left or not."""
        return self._written

    @property
    def acknowledged(self) -> int:
        """Bytes that arrived."""
        return self._written - self._owner.unacknowledged(self.id)

    @property
    def sent(self) -> int:
        """Bytes that left, whether they arrived or not; each counts once."""
        return self._written - (self._owner.unsent(self.id) if self._write_failure is None else self._never_left)

    @property
    def peer_address(self) -> Address:
        """Where the peer is now."""
        return self._owner.peer_address

    def nudge(self, seconds: float) -> bool:
        """Show the peer our address, and make it answer; see ``Connection.nudge``."""
        return self._owner.nudge(seconds)

    def reset(self, code: int) -> None:
        """Give the stream up in both directions, telling the peer ``code``."""
        error = PeerError("this stream was reset here")
        sending, receiving = not self._finished, not self._ended and self._read_failure is None
        self._finished = True
        self.fail(error)
        self._owner.abort(self.id, code, sending, receiving)

    def feed(self, data: bytes, end: bool) -> None:
        """The peer sent ``data``, and the end of the stream with it if ``end``."""
        if self._read_failure is None:
            if data:
                self._keep(data)
            self._ended = self._ended or end
            _wake(self._reader)

    def fail_read(self, error: PeerError) -> None:
        """Nothing more will come."""
        if self._read_failure is None and not self._ended:
            self._read_failure = error
            self._chunks.clear()
        _wake(self._reader)

    def fail_write(self, error: PeerError) -> None:
        """Nothing more can be sent."""
        if self._write_failure is None:
            self._never_left = self._owner.unsent(self.id)
            self._write_failure = error
        _wake(self._writer)

    def fail(self, error: PeerError) -> None:
        """The connection ended, or the stream was given up here."""
        self.fail_read(error)
        self.fail_write(error)

    def progressed(self) -> None:
        """The peer may have acknowledged something."""
        if self._write_failure is None and self._owner.unacknowledged(self.id) > self._wake_below:
            self._owner.watch(self)
        else:
            _wake(self._writer)

    async def _wait_for_progress(self, below: int) -> None:
        self._wake_below = below
        self._writer = asyncio.get_running_loop().create_future()
        self._owner.watch(self)
        await self._writer

    def _keep(self, data: bytes) -> None:
        # An object for every frame of two bytes would take 30 times their memory.
        chunks = self._chunks
        if chunks and len(chunks[-1]) + len(data) <= _SMALL_CHUNK:
            data = chunks.pop() + data
        chunks.append(data)

    def _take(self, limit: int) -> bytes:
        chunks = self._chunks
        if len(chunks[0]) > limit:
            first = chunks[0]
            chunks[0] = first[limit:]
            return first[:limit]
        taken = []
        while chunks and len(chunks[0]) <= limit:
            limit -= len(chunks[0])
            taken.append(chunks.popleft())
        return b"".join(taken) if len(taken) > 1 else taken[0]


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
