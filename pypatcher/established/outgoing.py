"""What leaves: frames are put into packets, and these sealed in batches (RFC 9000 sections 12 to 14). Pure."""

from __future__ import annotations

from .codec import (
    APPLICATION_CLOSE,
    PATH_CHALLENGE,
    PATH_RESPONSE,
    TRANSPORT_CLOSE,
    Train,
)
from .controls import write_controls
from .octets import varint
from .paths import MIN_DATAGRAM, Path
from .protection import TAG
from .recovery import SentPacket
from .state import State

__all__ = ["Outgoing"]

_NUMBER = 4
_NEW_PATH_TIMEOUT = 0.3
"""Seconds without an answer on a path whose round-trip time nobody knows."""
_LARGEST_CONTROL = 64
_LEAST_ROOM = 40
_UPDATE_AFTER = 1 << 22
"""Packets under one key; it has to change before 2^23 (RFC 9001 section 6.6)."""
_BLACK_HOLE_TIMEOUTS = 3
_ASK_EVERY = 8
"""Acknowledgements with gaps, after which the peer is asked to say which of them came."""
_SKIP_EVERY = 1024
_REASON_LIMIT = 512
_MOST_AT_ONCE = 256
"""Packets built in one go."""


class Outgoing:
    """Builds and seals packets."""

    def __init__(self, state: State) -> None:
        """What it needs to know is in ``state``."""
        self._state = state
        self._skip_at = state.recovery.next_number + _SKIP_EVERY
        self._acks_with_gaps = 0
        self.pacing_at: float | None = None

    def send(self, now: float) -> list[Train]:
        """Everything that may leave now."""
        state = self._state
        state.clock(now)
        self.pacing_at = None
        if state.closing is not None:
            return self._farewell(now) if state.close_pending else []
        self._update_keys()
        active = state.paths.active
        asks_at = active.asks_at()
        sent = self._ask(active, now) if asks_at is not None and asks_at <= now else []
        sent += self._bulk(now)
        for path in state.paths.all[1:]:
            if path.responses:
                sent += self._answer(path, now)
        if state.confirmed and state.paths.active.proved:
            size = state.size.due(now)
            if size:
                sent += self._probe(size, now)
        return sent

    def _update_keys(self) -> None:
        state = self._state
        sealer = state.sealer
        if sealer.sealed < _UPDATE_AFTER or not state.confirmed or sealer.phase != state.opener.phase:
            return
        self.update_keys()

    def update_keys(self) -> bool:
        """Go on with the next keys, if the peer is known to have the present ones (RFC 9001 section 6.1)."""
        state = self._state
        if not state.confirmed or state.sealer.phase != state.opener.phase:
            return False
        if state.recovery.largest_acked < state.phase_since or state.old_keys_until:
            return False
        state.sealer.update()
        state.phase_since = state.recovery.next_number
        return True

    def _prefix(self, connection_id: bytes) -> bytes:
        return bytes((0x43 | self._state.sealer.phase << 2,)) + connection_id

    def _number(self) -> int:
        recovery = self._state.recovery
        if recovery.next_number >= self._skip_at:
            recovery.skipped = recovery.next_number
            recovery.next_number += 1
            draw = int.from_bytes(self._state.random(2), "big")
            self._skip_at = recovery.next_number + _SKIP_EVERY + draw % _SKIP_EVERY
        number = recovery.next_number
        recovery.next_number += 1
        return number

    def _bulk(self, now: float) -> list[Train]:
        """Packets on the active path, until windows, pacing or the data end."""
        state = self._state
        recovery, received = state.recovery, state.received
        path = state.paths.active
        prefix = self._prefix(state.their_ids.current.value)
        overhead = len(prefix) + _NUMBER + TAG
        size = state.size.size
        cubic, pacer = recovery.cubic, recovery.pacer
        budget, unproved = pacer.budget(now), 0 if path.proved else path.room_for_others()
        headers: list[bytes] = []
        sealed: list[bytes] = []
        recovery.limited = False
        while len(headers) < _MOST_AT_ONCE:
            if not path.proved:
                if unproved < _LEAST_ROOM + overhead:
                    break
                size = min(size, unproved)
            room = size - overhead
            parts: list[bytes] = []
            acks = received.ack_at is not None and received.ack_at <= now
            fits = cubic.in_flight + size <= cubic.window and recovery.room() > 0
            may = recovery.probes > 0 or (budget > 0 and fits)
            if not may and not acks:
                break
            newest = -1
            if acks or (may and received.eliciting and self._has_data()):
                newest = received.largest
                parts.append(received.frame(now, min(room, 256)))
                room -= len(parts[0])
                self._acks_with_gaps += len(received.ranges) > 1 and may
            packet = SentPacket()
            eliciting = may and self._fill(parts, packet, path, room)
            if may and not eliciting and (recovery.probes > 0 or self._acks_with_gaps >= _ASK_EVERY):
                parts.append(b"\x01")
                eliciting = True
            if not parts:
                recovery.limited = cubic.in_flight * 2 < cubic.window
                break
            payload = parts[0] if len(parts) == 1 else b"".join(parts)
            if packet.padded and size >= MIN_DATAGRAM:
                payload = payload.ljust(MIN_DATAGRAM - overhead, b"\0")
            packet.number, packet.size, packet.acked, packet.time = self._number(), len(payload) + overhead, newest, now
            self._seal(headers, sealed, prefix, packet.number, payload)
            unproved -= packet.size
            if eliciting:
                budget -= packet.size
                self._left(packet, now)
                budget -= self._run(headers, sealed, prefix, size, budget, now)
        if recovery.probes <= 0 and budget <= 0 and self._has_data():
            self.pacing_at = pacer.next_time(now)
        return self._finished(headers, sealed, path)

    def _run(  # noqa: PLR0917
        self, headers: list[bytes], sealed: list[bytes], prefix: bytes, size: int, budget: float, now: float
    ) -> int:
        """Full packets of the one stream that has bytes to send, where nothing else is to be said: most of a transfer.

        As ``_bulk`` would make them, but without a look at everything for each; returns how many bytes left.
        """
        state = self._state
        recovery, flow = state.recovery, state.flow
        if not state.paths.active.proved or recovery.probes > 0 or len(flow.queue) != 1 or self._has_more_than_data():
            return 0
        cubic = recovery.cubic
        stream = flow.queue[0]
        sending = stream.sending
        if sending is None or not flow.may_send(stream):
            return 0
        name = varint(stream.id)
        length = size - len(prefix) - _NUMBER - TAG - 11 - len(name)
        # The last bytes, and the end with them, are not for here.
        count = (min(sending.straight(), flow.send_limit - flow.sent) - 1) // length
        count = min(count, (cubic.window - cubic.in_flight) // size, recovery.room(), _MOST_AT_ONCE - len(headers))
        gone = 0
        while count > 0 and gone < budget:
            count -= 1
            packet = SentPacket()
            packet.stream, packet.start = stream, sending.next
            frame = sending.advance(name, length)
            packet.end = sending.next
            packet.number, packet.size, packet.time = self._number(), size, now
            self._seal(headers, sealed, prefix, packet.number, frame)
            recovery.on_sent(packet)
            flow.sent += length
            gone += size
        return gone

    def _seal(self, headers: list[bytes], sealed: list[bytes], prefix: bytes, number: int, payload: bytes) -> None:
        pair = self._state.sealer.seal(prefix, number, payload)
        headers.append(pair[0])
        sealed.append(pair[1])

    def _finished(self, headers: list[bytes], sealed: list[bytes], path: Path) -> list[Train]:
        if not headers:
            return []
        address = path.address
        trains: list[Train] = []
        for data, size in self._state.sealer.finish(headers, sealed):
            path.sent += len(data)
            trains.append((data, size, address))
        return trains

    def _left(self, packet: SentPacket, now: float) -> None:
        """A packet that the peer must answer left; the first since it was heard puts the end off (RFC 9000, 10.1)."""
        state = self._state
        state.recovery.on_sent(packet)
        if packet.counted:
            state.recovery.probes = max(0, state.recovery.probes - 1)
        if packet.acked >= 0:
            self._acks_with_gaps = 0
        if not state.sent_since_heard:
            state.sent_since_heard = True
            state.idle_at = now + state.idle_seconds()

    def _has_data(self) -> bool:
        return bool(self._state.flow.queue) or self._has_more_than_data()

    def _has_more_than_data(self) -> bool:
        state = self._state
        return bool(
            state.flow.changed or state.pending or state.ping or state.our_ids.to_send or state.their_ids.to_retire
            or state.paths.active.responses
        )  # fmt: skip

    def _fill(self, parts: list[bytes], packet: SentPacket, path: Path, room: int) -> bool:
        """Put in what waits; whether that wants an acknowledgement."""
        state = self._state
        before = len(parts)
        if (
            state.pending or state.ping or state.flow.changed or state.our_ids.to_send or state.their_ids.to_retire
            or path.responses
        ):  # fmt: skip
            room = write_controls(state, parts, packet, room)
        if state.flow.queue:
            self._streams(parts, packet, room)
        return len(parts) > before

    def _streams(self, parts: list[bytes], packet: SentPacket, room: int) -> None:
        flow = self._state.flow
        queue = flow.queue
        blocked = 0
        while queue and room >= _LEAST_ROOM and blocked < len(queue):
            stream = queue[0]
            sending = stream.sending
            if sending is None or not sending.has_more() or sending.reset_code >= 0 or not flow.may_send(stream):
                queue.popleft()
                stream.queued = False
                continue
            before = sending.next
            # Offsets take 8 bytes whatever they are, so that full packets are alike, and leave as one train.
            name = varint(stream.id)
            if not sending.take(room - 11 - len(name), flow.send_limit - flow.sent):
                blocked += 1
                queue.rotate(-1)
                continue
            flow.sent += sending.next - before
            frame = sending.frame(name)
            parts.append(frame)
            room -= len(frame)
            if packet.stream is None:
                packet.stream = stream
                packet.start, packet.end, packet.fin = sending.take_start, sending.take_end, sending.take_fin
            else:
                if packet.more is None:
                    packet.more = []
                packet.more.append((stream, sending.take_start, sending.take_end, sending.take_fin))
            if not sending.has_more():
                queue.popleft()
                stream.queued = False
            elif room < _LEAST_ROOM:
                queue.rotate(-1)

    def _ask(self, path: Path, now: float) -> list[Train]:
        """PATH_CHALLENGE alone, which fills a datagram where one may go there (RFC 9000 section 8.2.1)."""
        state = self._state
        timeout = max(state.recovery.probe_timeout(), _NEW_PATH_TIMEOUT)
        path.asks_next = now + timeout
        if path.deadline is None:
            # Three times the longer of this path's timeout and that of a new one (RFC 9000 section 8.2.4).
            path.deadline = now + 3 * timeout
        challenge = state.random(8)
        path.challenges.append(challenge)
        prefix = self._prefix(state.their_ids.current.value)
        size = MIN_DATAGRAM if path.room() >= MIN_DATAGRAM else 0
        frame = bytes((PATH_CHALLENGE,)) + challenge
        return self._alone(prefix, frame.ljust(size - len(prefix) - _NUMBER - TAG, b"\0"), path, now, SentPacket())

    def _answer(self, path: Path, now: float) -> list[Train]:
        """PATH_RESPONSE on a path that is not in use, and nothing else (RFC 9000 section 9.3.1)."""
        state = self._state
        connection_id = state.their_ids.reserve(path)
        if connection_id is None:
            path.responses.clear()
            return []
        prefix = self._prefix(connection_id.value)
        room = min(MIN_DATAGRAM, path.room()) - len(prefix) - _NUMBER - TAG
        frames = b""
        while path.responses and len(frames) + 9 <= room:
            frames += bytes((PATH_RESPONSE,)) + path.responses.popleft()
        if not frames:
            return []
        return self._alone(prefix, frames.ljust(room, b"\0"), path, now, SentPacket())

    def _probe(self, size: int, now: float) -> list[Train]:
        """A padded PING of that size; its loss is no sign of congestion (RFC 8899)."""
        state = self._state
        prefix = self._prefix(state.their_ids.current.value)
        packet = SentPacket()
        packet.probe = size
        state.size.tried()
        payload = b"\x01".ljust(size - len(prefix) - _NUMBER - TAG, b"\0")
        return self._alone(prefix, payload, state.paths.active, now, packet)

    def _alone(self, prefix: bytes, payload: bytes, path: Path, now: float, packet: SentPacket) -> list[Train]:
        state = self._state
        packet.number, packet.time = self._number(), now
        packet.counted = False
        packet.size = len(prefix) + _NUMBER + len(payload) + TAG
        header, sealed = state.sealer.seal(prefix, packet.number, payload)
        self._left(packet, now)
        return self._finished([header], [sealed], path)

    def _farewell(self, now: float) -> list[Train]:
        """CONNECTION_CLOSE; it is said again by whoever moves the datagrams (RFC 9000 section 10.2.1)."""
        state = self._state
        closing = state.closing
        state.close_pending = False
        state.close_at = now + 3 * state.recovery.probe_timeout()
        path = state.paths.active
        if closing is None or (not path.proved and path.room() < _REASON_LIMIT):
            return []
        reason = closing.reason.encode()[:_REASON_LIMIT]
        kind = bytes((APPLICATION_CLOSE if closing.by_application else TRANSPORT_CLOSE,))
        frame_type = b"" if closing.by_application else varint(closing.frame_type)
        payload = kind + varint(closing.code) + frame_type + varint(len(reason)) + reason
        prefix = self._prefix(state.their_ids.current.value)
        header, sealed = state.sealer.seal(prefix, self._number(), payload)
        return self._finished([header], [sealed], path)
