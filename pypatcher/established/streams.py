"""The two directions of a stream as bytes with offsets (RFC 9000 sections 2 and 3). Pure.

Sent bytes are kept until they were acknowledged; received ones until their turn comes. Not here: whether a stream may
exist, and what all of them may hold together (``flow``).
"""

from __future__ import annotations

from bisect import bisect_right

from .codec import FINAL_SIZE_ERROR, STREAM_OFFSET_LENGTH, TransportError
from .octets import stream_frame
from .range_set import STREAM_FRAGMENTS, Fragments

__all__ = ["QuicStream", "Receiving", "Sending"]

_SMALL_CHUNK = 4096
"""What is written in pieces smaller than this is joined."""
_GAPS = 2048
"""Between acknowledged bytes: as many as packets may be on their way."""


class Sending:
    """What this side writes."""

    __slots__ = (
        "_acked", "_chunk", "_chunk_start", "_chunks", "_left_behind", "_lost", "_starts", "base", "end", "fin",
        "fin_acked", "fin_lost", "fin_sent", "limit", "next", "reset_acked", "reset_code", "reset_pending", "take_end",
        "take_fin", "take_start",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        """The peer takes ``limit`` bytes."""
        self.limit = limit
        self.base = 0
        """Everything before was acknowledged."""
        self.next = 0
        """Everything before left once."""
        self.end = 0
        self.fin = self.fin_sent = self.fin_lost = self.fin_acked = False
        self.reset_code = -1
        self.reset_pending = self.reset_acked = False
        self.take_start = self.take_end = 0
        self.take_fin = False
        self._left_behind = 0
        self._chunk = b""
        """One of those below, and where it starts: that of the last frame, whose next bytes mostly come next."""
        self._chunk_start = 0
        self._chunks: list[bytes] = []
        self._starts: list[int] = []
        self._acked = Fragments(_GAPS)
        self._lost = Fragments(_GAPS)

    @property
    def done(self) -> bool:
        """Whether the peer knows all of it."""
        return (self.fin_acked and self.base == self.end) or self.reset_acked

    def write(self, data: bytes, fin: bool) -> None:
        """Queue more."""
        if self.reset_code >= 0 or self.fin:
            return
        if data:
            if self._chunks and len(self._chunks[-1]) + len(data) <= _SMALL_CHUNK:
                self._chunks[-1] += data
            else:
                self._starts.append(self.end)
                self._chunks.append(data)
            self.end += len(data)
        self.fin = fin

    def reset(self, code: int) -> None:
        """Give it up."""
        if self.reset_code < 0 and not self.done:
            self.reset_code = code
            self.reset_pending = True
            self._chunks.clear()
            self._starts.clear()
            self._chunk = b""
            self._left_behind = self.end - self.next
            self.end = self.base = self.next

    @property
    def unsent(self) -> int:
        """Bytes that were written and never left."""
        return self._left_behind + self.end - self.next

    def take(self, room: int, new: int) -> bool:
        """Choose the next bytes to send, which ``frame`` is of; whether there are any, or there is an end to be said.

        Args:
            room: at most so many bytes.
            new: of those that never left at most so many, as the connection's flow control has it.
        """
        if self.reset_code >= 0:
            return False
        lost = self._lost
        while len(lost):
            part = lost.shift()
            start = max(part.start, self.base)
            if start >= part.stop:
                continue
            stop = min(part.stop, start + room)
            if stop < part.stop:
                lost.add(stop, part.stop)
            self.take_start, self.take_end = start, stop
            self.take_fin = self.fin_lost and stop == self.end
            self.fin_lost = self.fin_lost and not self.take_fin
            return True
        start = self.next
        stop = min(self.end, start + room, start + new, self.limit)
        wants_fin = self.fin and (self.fin_lost or not self.fin_sent) and stop == self.end
        if stop <= start and not wants_fin:
            return False
        self.take_start, self.take_end, self.take_fin = start, stop, wants_fin
        self.next = stop
        if wants_fin:
            self.fin_sent, self.fin_lost = True, False
        return True

    def frame(self, name: bytes) -> bytes:
        """The STREAM frame of what was taken; ``name`` is the id of the stream."""
        start = self.take_start
        length = self.take_end - start
        kind = STREAM_OFFSET_LENGTH + self.take_fin
        if not length:
            return stream_frame(kind, name, start, b"", 0, 0)
        index = bisect_right(self._starts, start) - 1
        self._chunk, self._chunk_start = self._chunks[index], self._starts[index]
        at = start - self._chunk_start
        chunk = self._chunk
        if at + length > len(chunk):
            chunk = chunk[at:]
            at = 0
            while len(chunk) < length:
                index += 1
                chunk += self._chunks[index][: length - len(chunk)]
        return stream_frame(kind, name, start, chunk, at, length)

    def straight(self) -> int:
        """How many bytes may leave in a row that never did; 0 while lost ones come first."""
        if self.reset_code >= 0 or len(self._lost):
            return 0
        return min(self.end, self.limit) - self.next

    def advance(self, name: bytes, length: int) -> bytes:
        """The STREAM frame of the next ``length`` bytes, of which ``straight`` says how many there are."""
        start = self.next
        at = start - self._chunk_start
        self.next = start + length
        if at >= 0 and at + length <= len(self._chunk):
            return stream_frame(STREAM_OFFSET_LENGTH, name, start, self._chunk, at, length)
        self.take_start, self.take_end, self.take_fin = start, self.next, False
        return self.frame(name)

    def acked(self, start: int, stop: int, fin: bool) -> None:
        """These bytes arrived.

        Raises:
            TooManyFragmentsError: only every second one did, over and over.
        """
        self.fin_acked = self.fin_acked or fin
        if stop <= self.base:
            return
        acked = self._acked
        if start <= self.base:
            self.base = stop
        else:
            acked.add(start, stop)
        while len(acked) and acked[0].start <= self.base:
            self.base = max(self.base, acked.shift().stop)
        chunks, starts = self._chunks, self._starts
        while chunks and starts[0] + len(chunks[0]) <= self.base:
            del chunks[0], starts[0]
        if not chunks:
            self._chunk = b""

    def lost(self, start: int, stop: int, fin: bool) -> None:
        """These bytes have to leave again.

        Raises:
            TooManyFragmentsError: only every second one was lost, over and over.
        """
        if self.reset_code >= 0:
            return
        self.fin_lost = self.fin_lost or (fin and not self.fin_acked)
        # Bytes of it that arrived otherwise leave again all the same: that is rare, and harmless.
        start = max(start, self.base)
        if start < stop:
            self._lost.add(start, stop)

    def has_more(self) -> bool:
        """Whether something waits that the stream's own limit allows."""
        if self.reset_code >= 0:
            return self.reset_pending
        return (
            len(self._lost) > 0
            or self.next < min(self.end, self.limit)
            or (self.fin and (self.fin_lost or not self.fin_sent) and self.next == self.end)
        )


class Receiving:
    """What the peer writes."""

    __slots__ = (
        "_ahead", "_gaps", "chunks", "ended", "final", "highest", "limit", "limit_pending", "reset_seen", "start",
        "stop_code", "stop_pending",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        """The peer may write ``limit`` bytes."""
        self.limit = limit
        self.limit_pending = False
        self.start = 0
        """Everything before was handed over."""
        self.highest = 0
        self.final = -1
        self.ended = self.reset_seen = False
        self.stop_code = -1
        self.stop_pending = False
        self.chunks: list[bytes] = []
        """In order, not handed over yet."""
        self._ahead = bytearray()
        self._gaps: Fragments | None = None

    @property
    def done(self) -> bool:
        """Whether nothing more can come."""
        return self.ended or self.reset_seen

    @property
    def gaps(self) -> int:
        """How many ranges wait for what is before them."""
        return 0 if self._gaps is None else len(self._gaps)

    def append(self, offset: int, data: bytes, end: int) -> bool:
        """Take bytes that are the next ones, where nothing else is to be looked at: most are."""
        if offset != self.start or self._gaps is not None or self.final >= 0 or self.stop_code >= 0 or not data:
            return False
        self.chunks.append(data)
        self.start = self.highest = end
        return True

    def frame(self, offset: int, data: bytes, fin: bool) -> bool:
        """Bytes came that the limits allow; returns whether there is something to hand over.

        Raises:
            TransportError: the end is elsewhere than was said.
            TooManyFragmentsError: only every second byte came.
        """
        end = offset + len(data)
        self._check_final(end, fin)
        self.highest = max(self.highest, end)
        if self.done:
            return False
        if offset <= self.start:
            if end > self.start:
                data = data[self.start - offset :] if offset < self.start else data
                self._deliver(data)
                if self._gaps is not None:
                    self._join(len(data))
        elif data:
            self._keep(offset, data)
        if self.start == self.final:
            self.ended = True
        return bool(self.chunks) or self.ended

    def reset(self, final: int) -> None:
        """The peer gave it up after so many bytes.

        Raises:
            TransportError: the end is elsewhere than was said.
        """
        self._check_final(final, True)
        self.highest = final
        if not self.ended:
            self.reset_seen = True
            self.stop_pending = False
            self.chunks.clear()
            self._ahead.clear()
            self._gaps = None

    def stop(self, code: int) -> None:
        """Ask the peer to give it up; what comes until then is dropped."""
        if self.stop_code < 0 and not self.done:
            self.stop_code = code
            self.stop_pending = True

    def hand_over(self) -> bytes:
        """What came in order."""
        chunks = self.chunks
        self.chunks = []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _check_final(self, end: int, fin: bool) -> None:
        if self.final >= 0 and (end > self.final or (fin and end != self.final)):
            raise TransportError(FINAL_SIZE_ERROR, 0, "Data beyond the final size")
        if fin:
            if end < self.highest:
                raise TransportError(FINAL_SIZE_ERROR, 0, "The final size is below what came")
            self.final = end

    def _deliver(self, data: bytes) -> None:
        if self.stop_code < 0:
            self.chunks.append(data)
        self.start += len(data)

    def _keep(self, offset: int, data: bytes) -> None:
        if self._gaps is None:
            self._gaps = Fragments(STREAM_FRAGMENTS)
        self._gaps.add(offset, offset + len(data))
        at = offset - self.start
        missing = at + len(data) - len(self._ahead)
        if missing > 0:
            self._ahead.extend(bytes(missing))
        self._ahead[at : at + len(data)] = data

    def _join(self, count: int) -> None:
        """``count`` bytes were handed over in front of what waits."""
        gaps, ahead = self._gaps, self._ahead
        if gaps is None:
            return
        del ahead[:count]
        while len(gaps) and gaps[0].start <= self.start:
            length = gaps.shift().stop - self.start
            if length > 0:
                self._deliver(bytes(ahead[:length]))
                del ahead[:length]
        if not len(gaps):
            self._gaps = None
            ahead.clear()


class QuicStream:
    """Both directions; one that this side or the peer cannot use is None."""

    __slots__ = ("id", "queued", "receiving", "sending")

    def __init__(self, stream_id: int, sending: Sending | None, receiving: Receiving | None) -> None:
        """Open."""
        self.id = stream_id
        self.sending = sending
        self.receiving = receiving
        self.queued = False
        """Whether it is in the queue of those with something to send."""

    @property
    def done(self) -> bool:
        """Whether both sides know all of it."""
        sending, receiving = self.sending, self.receiving
        return (sending is None or sending.done) and (receiving is None or receiving.done)
