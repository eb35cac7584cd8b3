"""What comes: packets are opened in batches, and their frames acted upon (RFC 9000 sections 12, 13 and 19). Pure."""

from __future__ import annotations

from .codec import (
    ACK,
    ACK_ECN,
    AEAD_LIMIT_REACHED,
    APPLICATION_CLOSE,
    CRYPTO,
    CRYPTO_BUFFER_EXCEEDED,
    DATA_BLOCKED,
    FRAME_ENCODING_ERROR,
    HANDSHAKE_DONE,
    KEY_UPDATE_ERROR,
    MAX_DATA,
    MAX_STREAM_DATA,
    MAX_STREAMS_BIDI,
    MAX_STREAMS_UNI,
    NEW_CONNECTION_ID,
    NEW_TOKEN,
    PADDING,
    PATH_CHALLENGE,
    PATH_RESPONSE,
    PING,
    PROTOCOL_VIOLATION,
    RESET_STREAM,
    RETIRE_CONNECTION_ID,
    STOP_SENDING,
    STREAM_DATA_BLOCKED,
    STREAMS_BLOCKED_BIDI,
    STREAMS_BLOCKED_UNI,
    TRANSPORT_CLOSE,
    UNEXPECTED_MESSAGE,
    FrameReader,
    Train,
    TransportError,
)
from .octets import cut, number_at, stands_at, unprotected_header
from .paths import Address, Path
from .protection import SAMPLE
from .range_set import TooManyFragmentsError
from .state import Closing, Confirmed, IdRetired, State, StreamReset, StreamStopped
from .streams import Receiving

__all__ = ["Incoming"]

_ACK_FRAMES = 8
"""In one packet, where honest peers write one: each goes through all packets that are on their way."""
_PROBING = frozenset((PADDING, PATH_CHALLENGE, PATH_RESPONSE, NEW_CONNECTION_ID))
_NOT_ELICITING = frozenset((PADDING, ACK, ACK_ECN, TRANSPORT_CLOSE, APPLICATION_CLOSE))
_HANDSHAKE_LIMIT = 16384
_NEW_SESSION_TICKET = 4
_MOST_FAILURES = 1 << 36
_MOST_STREAMS = 1 << 60
_WINDOWS = tuple(1 << 8 * size for size in range(1, 5))
"""How many packet numbers there are in so many bytes."""


class Incoming:
    """Opens packets and reads their frames."""

    def __init__(self, state: State) -> None:
        """What it learns goes to ``state``."""
        self._state = state
        self._tls = Receiving(_HANDSHAKE_LIMIT)
        self._tls_left = b""
        self._genuine = False
        self._number_at = 1 + state.id_size
        self._reader = FrameReader(b"")
        self._called = b""  # what the last packet called us

    def receive(self, trains: list[Train], now: float) -> None:
        """Take datagrams, each of which is one packet with a short header."""
        state = self._state
        state.clock(now)
        if state.old_keys_until and now >= state.old_keys_until:
            state.opener.forget_old()
            state.old_keys_until = 0.0
        for train in trains:
            self._train(train[0], train[1], train[2], now)
        if self._genuine and state.closing is None:
            self._genuine = False
            state.idle_at = now + state.idle_seconds()
            state.sent_since_heard = False

    def _train(self, data: bytes, size: int, address: Address, now: float) -> None:
        state = self._state
        offset = self._number_at
        shortest = offset + 4 + SAMPLE
        path = state.paths.find(address)
        if path is not None:
            address = path.address
            if not path.proved:
                path.received += len(data)
        elif state.is_client:
            return  # servers stay where they are (RFC 9000 section 9)
        total = len(data)
        count = total // size + (total % size >= shortest)
        if size < shortest or not count:
            return
        masks = state.opener.masks(data, size, offset, count)
        for index in range(count):
            if state.closing is not None:
                return
            start = index * size
            if not self._called or not stands_at(data, start + 1, self._called):
                called = cut(data, start + 1, start + offset)
                if state.our_ids.number_of(called) is None:
                    continue
                self._called = called
            self._packet(data, start, min(start + size, total), address, masks, SAMPLE * index, now)

    def _packet(  # noqa: PLR0917
        self, data: bytes, start: int, end: int, address: Address, masks: bytes, at: int, now: float
    ) -> None:
        """The one from ``start`` to before ``end``, with the mask at ``at``."""
        state = self._state
        offset = start + self._number_at
        received = state.received
        first = data[start] ^ (masks[at] & 0x1F)
        size = (first & 3) + 1
        low = number_at(data, offset, size) ^ number_at(masks, at + 1, size)
        expected = received.largest + 1
        window = _WINDOWS[size - 1]
        number = (expected & -window) | low
        if number <= expected - (window >> 1) and not (number + window) >> 62:
            number += window
        elif number > expected + (window >> 1) and number >= window:
            number -= window
        if not received.is_new(number):
            return
        header = unprotected_header(first, data, start, offset, low, size)
        payload, flips = state.opener.open(header, number, cut(data, offset + size, end), (first >> 2) & 1)
        if payload is None:
            if state.opener.failed >= _MOST_FAILURES:
                state.close(Closing(AEAD_LIMIT_REACHED, False, "Too many forged packets"), now, tell=False)
            return
        try:
            if first & 0x18:
                raise TransportError(PROTOCOL_VIOLATION, 0, "Reserved bits must be zero")
            if flips:
                self._update_keys(number, now)
            path = state.paths.active
            if path.address is not address:
                path = state.paths.find(address) or self._new_path(address, end - start)
            called = self._called
            eliciting, probing = self._frames(payload, path, called, now)
        except TransportError as error:
            state.close(Closing(error.code, False, error.reason, error.frame_type), now, tell=True)
            return
        except TooManyFragmentsError:
            reason = "Too many gaps in what was sent"
            state.close(Closing(PROTOCOL_VIOLATION, False, reason), now, tell=True)
            return
        if state.closing is not None:
            return
        self._genuine = True
        if not state.is_client:
            self._follow(path, called, probing, number > received.largest)
        received.add(number, now, eliciting)

    def _update_keys(self, number: int, now: float) -> None:
        state = self._state
        ours = state.sealer.phase != state.opener.phase
        if not ours:
            if state.recovery.next_number <= state.phase_since:
                raise TransportError(KEY_UPDATE_ERROR, 0, "Keys were updated twice at once")
            state.sealer.update()
            state.phase_since = state.recovery.next_number
        state.opener.update(number)
        state.old_keys_until = now + 3 * state.recovery.probe_timeout()

    def _new_path(self, address: Address, size: int) -> Path:
        path = Path(address, False)
        path.received = size
        gone = self._state.paths.add(path)
        if gone is not None:
            self._state.their_ids.release(gone)
        return path

    def _follow(self, path: Path, called: bytes, probing: bool, newest: bool) -> None:
        """A client is where its newest packet comes from (RFC 9000 section 9.3)."""
        state = self._state
        if probing or not newest:
            return
        if called != state.host_id:
            state.host_id = called
            if path not in state.their_ids.reserved:
                state.their_ids.change()
        before = state.paths.active
        if path is before:
            return
        state.paths.promote(path)
        # What filled the window went to where it was before: it is asked at once, and its answer shows what is lost.
        state.recovery.probes = max(state.recovery.probes, 1)
        state.their_ids.use_reserved(path)
        if path.address[0] != before.address[0]:
            state.recovery.restart(state.size.size)

    def _frames(self, payload: bytes, path: Path, called: bytes, now: float) -> tuple[bool, bool]:
        """Act on all frames; whether the packet wants an acknowledgement, and whether it only looks at a path."""
        if not payload:
            raise TransportError(PROTOCOL_VIOLATION, 0, "Packet contains no frames")
        reader = self._reader
        reader.data, reader.pos, reader.end = payload, 0, len(payload)
        eliciting, probing = False, True
        acks = 0
        while reader.pos < reader.end:
            kind = payload[reader.pos]
            if 0x08 <= kind <= 0x0F:
                reader.pos += 1
                self._stream_frame(reader, kind)
                eliciting, probing = True, False
                continue
            if kind in (ACK, ACK_ECN):
                reader.pos += 1
                acks += 1
                if acks > _ACK_FRAMES:
                    raise TransportError(PROTOCOL_VIOLATION, kind, "Too many acknowledgements")
                self._state.recovery.on_ack(reader, now)
                self._state.settle()
                if kind == ACK_ECN:
                    for _ in range(3):
                        reader.varint()
                probing = False
                continue
            if kind >= 0x40:
                raise TransportError(PROTOCOL_VIOLATION, 0, "A frame type that no frame has, or in too many bytes")
            reader.pos += 1
            eliciting = eliciting or kind not in _NOT_ELICITING
            probing = probing and kind in _PROBING
            self._frame(reader, kind, path, called, now)
            if self._state.closing is not None:
                break
        return eliciting, probing

    def _stream_frame(self, reader: FrameReader, kind: int) -> None:
        stream_id = reader.varint()
        offset = reader.varint() if kind & 4 else 0
        length = reader.varint() if kind & 2 else reader.end - reader.pos
        if (offset + length) >> 62:
            raise TransportError(FRAME_ENCODING_ERROR, kind, "offset + length cannot exceed 2^62 - 1")
        self._state.flow.on_data(stream_id, offset, reader.take(length), bool(kind & 1))

    def _frame(self, reader: FrameReader, kind: int, path: Path, called: bytes, now: float) -> None:
        """All but STREAM and ACK."""
        if kind == PADDING:
            reader.pos = reader.end - len(reader.data[reader.pos :].lstrip(b"\0"))
        elif kind == PING:
            pass
        elif kind in (TRANSPORT_CLOSE, APPLICATION_CLOSE):
            self._closed(reader, kind, now)
        elif kind in (PATH_CHALLENGE, PATH_RESPONSE, NEW_CONNECTION_ID, RETIRE_CONNECTION_ID):
            self._path_frame(reader, kind, path, called, now)
        elif kind in (CRYPTO, NEW_TOKEN, HANDSHAKE_DONE):
            self._handshake_frame(reader, kind)
        else:
            self._flow_frame(reader, kind)

    def _flow_frame(self, reader: FrameReader, kind: int) -> None:
        """What may be sent, and what is given up."""
        state = self._state
        flow = state.flow
        if kind == MAX_DATA:
            flow.send_limit = max(flow.send_limit, reader.varint())
        elif kind == MAX_STREAM_DATA:
            stream_id, limit = reader.varint(), reader.varint()
            stream = flow.sending(stream_id, kind)
            if stream is not None and stream.sending is not None and limit > stream.sending.limit:
                stream.sending.limit = limit
                flow.enqueue(stream)
        elif kind in (MAX_STREAMS_BIDI, MAX_STREAMS_UNI):
            flow.raise_streams(kind == MAX_STREAMS_UNI, reader.varint(), kind)
        elif kind == RESET_STREAM:
            stream_id, code, final = reader.varint(), reader.varint(), reader.varint()
            if flow.on_reset(stream_id, final) is not None:
                state.events.append(StreamReset(stream_id, code))
        elif kind == STOP_SENDING:
            self._stopped(reader.varint(), reader.varint())
        elif kind == DATA_BLOCKED:
            reader.varint()
        elif kind == STREAM_DATA_BLOCKED:
            flow.receiving(reader.varint(), kind)
            reader.varint()
        elif kind in (STREAMS_BLOCKED_BIDI, STREAMS_BLOCKED_UNI):
            if reader.varint() > _MOST_STREAMS:
                raise TransportError(FRAME_ENCODING_ERROR, kind, "Maximum Streams cannot exceed 2^60")
        else:
            raise TransportError(FRAME_ENCODING_ERROR, kind, "Unknown frame type")

    def _path_frame(self, reader: FrameReader, kind: int, path: Path, called: bytes, now: float) -> None:
        """Addresses and what both sides call each other."""
        state = self._state
        if kind == PATH_CHALLENGE:
            challenge = reader.take(8)
            if state.paths.may_answer(now):
                path.was_asked(challenge)
        elif kind == PATH_RESPONSE:
            state.paths.answered(reader.take(8))
        elif kind == NEW_CONNECTION_ID:
            state.their_ids.on_new(reader)
        else:
            retired = state.our_ids.retire(reader.varint(), called)
            if retired is not None:
                state.events.append(IdRetired(retired.value))
                state.replenish_ids()

    def _handshake_frame(self, reader: FrameReader, kind: int) -> None:
        """What follows a handshake, and comes from servers alone."""
        state = self._state
        if kind == CRYPTO:
            self._crypto(reader)
        elif not state.is_client:
            raise TransportError(PROTOCOL_VIOLATION, kind, "Only servers send that")
        elif kind == NEW_TOKEN:
            if not reader.take(reader.varint()):
                raise TransportError(FRAME_ENCODING_ERROR, kind, "A token without a byte")
        elif not state.confirmed:
            state.confirmed = True
            state.events.append(Confirmed())

    def _stopped(self, stream_id: int, code: int) -> None:
        state = self._state
        stream = state.flow.sending(stream_id, STOP_SENDING)
        if stream is None or stream.sending is None or stream.sending.done or stream.sending.reset_code >= 0:
            return
        # What the peer does not want is given up with its own code (RFC 9000 section 3.5). The event comes first, so
        # that whoever writes can still say how much had left.
        state.events.append(StreamStopped(stream_id, code))
        stream.sending.reset(code)
        state.flow.changed.add(-1 - stream_id)

    def _crypto(self, reader: FrameReader) -> None:
        """Session tickets, which are not used; nothing else may come (RFC 9001 section 4.6 and 6)."""
        offset, length = reader.varint(), reader.varint()
        data = reader.take(length)
        if not self._state.is_client:
            raise TransportError(UNEXPECTED_MESSAGE, CRYPTO, "Nothing of TLS is expected any more")
        if offset + length - self._tls.start > _HANDSHAKE_LIMIT:
            raise TransportError(CRYPTO_BUFFER_EXCEEDED, CRYPTO, "Handshake is too long")
        if not self._tls.frame(offset, data, False):
            return
        message = self._tls_left + self._tls.hand_over()
        while len(message) >= 4:
            size = 4 + int.from_bytes(message[1:4], "big")
            if message[0] != _NEW_SESSION_TICKET:
                raise TransportError(UNEXPECTED_MESSAGE, CRYPTO, "Only session tickets are expected")
            if size > _HANDSHAKE_LIMIT:
                raise TransportError(CRYPTO_BUFFER_EXCEEDED, CRYPTO, "Handshake message is too long")
            if len(message) < size:
                break
            message = message[size:]
        self._tls_left = message

    def _closed(self, reader: FrameReader, kind: int, now: float) -> None:
        code = reader.varint()
        frame_type = reader.varint() if kind == TRANSPORT_CLOSE else 0
        reason = reader.take(reader.varint()).decode("utf-8", "replace")
        self._state.close(Closing(code, kind == APPLICATION_CLOSE, reason, frame_type), now, tell=False)
