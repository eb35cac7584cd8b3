"""All streams of a connection: which may exist, what they may hold together, whose turn it is (RFC 9000 section 4).

What a peer may send ahead is bounded by each stream's window, which follows its reader, and by that of the connection.
Pure. Not here: how frames get into packets.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from .codec import (
    FLOW_CONTROL_ERROR,
    FRAME_ENCODING_ERROR,
    LARGEST,
    RESET_STREAM,
    STREAM,
    STREAM_LIMIT_ERROR,
    STREAM_STATE_ERROR,
    TransportError,
)
from .streams import QuicStream, Receiving, Sending

__all__ = ["Flow", "FlowLimits"]

_MOST_STREAMS = 1 << 60
_WINDOW = 4 << 20
"""Bytes of all streams together that may come before the peer is told to go on."""


@dataclass(frozen=True, slots=True)
class FlowLimits:
    """What one side lets the other do, as its transport parameters say (RFC 9000 section 18.2).

    Attributes:
        data: bytes of all streams.
        own_bidi: bytes of a bidirectional stream that it opened itself.
        other_bidi: of one that the other side opened.
        uni: of a unidirectional stream of the other side.
        streams_bidi: how many bidirectional streams the other side may open.
        streams_uni: the same of unidirectional ones.
    """

    data: int
    own_bidi: int
    other_bidi: int
    uni: int
    streams_bidi: int
    streams_uni: int


class Flow:
    """The streams, by their ids."""

    def __init__(self, is_client: bool, ours: FlowLimits, theirs: FlowLimits) -> None:
        """No stream was opened yet."""
        self.streams: dict[int, QuicStream] = {}
        self.queue: deque[QuicStream] = deque()
        """Those with something to send; the first has its turn."""
        self.readable: dict[QuicStream, None] = {}
        self.changed: set[int] = set()
        """MAX_DATA and others that have to be said: frame types, and ids of streams as ``-1 - id``."""
        self.receive_limit = ours.data
        self.received = 0
        self.send_limit = theirs.data
        self.sent = 0
        self._mine = 0 if is_client else 1
        self._ours, self._theirs = ours, theirs
        self._opened = [0, 0]
        self._may_open = [theirs.streams_bidi, theirs.streams_uni]
        self._seen = [0, 0]
        self.allowed = [ours.streams_bidi, ours.streams_uni]
        self._told = list(self.allowed)

    def next_id(self, uni: bool) -> int:
        """The id of the stream that ``open`` opens next."""
        return self._opened[uni] * 4 + uni * 2 + self._mine

    def open(self, uni: bool) -> QuicStream:
        """A new stream of this side; it waits until the peer allows so many."""
        stream_id = self.next_id(uni)
        self._opened[uni] += 1
        limit = self._theirs.uni if uni else self._theirs.other_bidi
        stream = QuicStream(stream_id, Sending(limit), None if uni else Receiving(self._ours.own_bidi))
        self.streams[stream_id] = stream
        return stream

    def may_send(self, stream: QuicStream) -> bool:
        """Whether the peer allows that stream to exist."""
        return (stream.id & 1) != self._mine or stream.id // 4 < self._may_open[(stream.id >> 1) & 1]

    def enqueue(self, stream: QuicStream) -> None:
        """It has something to send, perhaps."""
        if not stream.queued:
            stream.queued = True
            self.queue.append(stream)

    def receiving(self, stream_id: int, frame_type: int) -> QuicStream | None:
        """The stream of a frame that only its sender may send; None if it is over.

        Raises:
            TransportError: there is no such stream, and may not be.
        """
        if (stream_id & 1) == self._mine and stream_id & 2:
            raise TransportError(STREAM_STATE_ERROR, frame_type, "Stream is send-only")
        return self._of_peer(stream_id, frame_type)

    def sending(self, stream_id: int, frame_type: int) -> QuicStream | None:
        """The stream of a frame that only its receiver may send; None if it is over.

        Raises:
            TransportError: there is no such stream, and may not be.
        """
        if (stream_id & 1) != self._mine and stream_id & 2:
            raise TransportError(STREAM_STATE_ERROR, frame_type, "Stream is receive-only")
        return self._of_peer(stream_id, frame_type)

    def on_data(self, stream_id: int, offset: int, data: bytes, fin: bool) -> None:
        """A STREAM frame came.

        Raises:
            TransportError: the peer may not send it.
            TooManyFragmentsError: only every second byte came.
        """
        stream = self.streams.get(stream_id)
        if stream is None or stream.receiving is None:
            stream = self.receiving(stream_id, STREAM)
            if stream is None or stream.receiving is None:
                return
        receiving = stream.receiving
        end = offset + len(data)
        if end > receiving.highest:
            self._count(receiving, end, STREAM)
        if (not fin and receiving.append(offset, data, end)) or receiving.frame(offset, data, fin):
            self.readable[stream] = None

    def on_reset(self, stream_id: int, final: int) -> QuicStream | None:
        """A RESET_STREAM frame came; the stream, if that is news.

        Raises:
            TransportError: the peer may not send it.
        """
        stream = self.receiving(stream_id, RESET_STREAM)
        if stream is None or stream.receiving is None:
            return None
        receiving = stream.receiving
        if final > LARGEST:
            raise TransportError(FRAME_ENCODING_ERROR, RESET_STREAM, "A final size beyond 2^62 - 1")
        known = receiving.done
        if final > receiving.highest:
            self._count(receiving, final, RESET_STREAM)
        receiving.reset(final)
        self.readable.pop(stream, None)
        self.collect(stream)
        return None if known else stream

    def raise_streams(self, uni: bool, count: int, frame_type: int) -> None:
        """A MAX_STREAMS frame came.

        Raises:
            TransportError: nobody can open so many.
        """
        if count > _MOST_STREAMS:
            raise TransportError(FRAME_ENCODING_ERROR, frame_type, "Maximum Streams cannot exceed 2^60")
        if count > self._may_open[uni]:
            self._may_open[uni] = count
            for stream in self.streams.values():
                self.enqueue(stream)
                self.changed.add(-1 - stream.id)

    def grant(self, stream_id: int, offset: int) -> bool:
        """The reader is so far that the peer may send up to ``offset``; returns whether it is worth telling now."""
        stream = self.streams.get(stream_id)
        if stream is None or stream.receiving is None:
            return False
        receiving = stream.receiving
        if receiving.done or receiving.final >= 0 or offset <= receiving.limit:
            return False
        if (offset - receiving.limit) * 4 < offset - receiving.start:
            return False
        receiving.limit = offset
        receiving.limit_pending = True
        self.changed.add(-1 - stream_id)
        return True

    def tell_streams(self, uni: bool) -> int:
        """How many the peer may open, which it is told now."""
        self._told[uni] = self.allowed[uni]
        return self.allowed[uni]

    def collect(self, stream: QuicStream) -> None:
        """Forget it if both sides know all of it, and let the peer open another one for it."""
        if not stream.done or stream.id not in self.streams or stream in self.readable:
            return
        del self.streams[stream.id]
        if (stream.id & 1) != self._mine:
            uni = (stream.id >> 1) & 1
            self.allowed[uni] += 1
            self._tell_soon(uni)

    def _tell_soon(self, uni: int) -> None:
        """In batches: when the peer has fewer left to open than that would grant."""
        if self._told[uni] - self._seen[uni] < self.allowed[uni] - self._told[uni]:
            self.changed.add(0x12 + uni)

    def _count(self, receiving: Receiving, end: int, frame_type: int) -> None:
        if end > receiving.limit:
            raise TransportError(FLOW_CONTROL_ERROR, frame_type, "Over stream data limit")
        received = self.received + end - receiving.highest
        if received > self.receive_limit:
            raise TransportError(FLOW_CONTROL_ERROR, frame_type, "Over connection data limit")
        self.received = received
        if self.receive_limit - received < _WINDOW // 2:
            self.receive_limit = received + _WINDOW
            self.changed.add(0x10)

    def _of_peer(self, stream_id: int, frame_type: int) -> QuicStream | None:
        stream = self.streams.get(stream_id)
        if stream is not None:
            return stream
        uni = (stream_id >> 1) & 1
        index = stream_id // 4
        if (stream_id & 1) == self._mine:
            if index >= self._opened[uni]:
                raise TransportError(STREAM_STATE_ERROR, frame_type, "Wrong stream initiator")
            return None
        if index < self._seen[uni]:
            return None
        if index >= self.allowed[uni]:
            raise TransportError(STREAM_LIMIT_ERROR, frame_type, "Too many streams open")
        # Opening one opens all lower ones of its kind (RFC 9000 section 2.1).
        for number in range(self._seen[uni], index + 1):
            new = number * 4 + (stream_id & 3)
            sending = None if uni else Sending(self._theirs.own_bidi)
            limit = self._ours.uni if uni else self._ours.other_bidi
            self.streams[new] = QuicStream(new, sending, Receiving(limit))
        self._seen[uni] = index + 1
        self._tell_soon(uni)
        return self.streams[stream_id]
