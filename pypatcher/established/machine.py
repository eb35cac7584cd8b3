"""One established connection: what the rest of the program asks of it, and its timer. Pure.

Packets go in by ``receive`` and come out of ``send``, one by one or joined (``Train``); ``timer`` says when
``on_timer`` is due, and ``take_events`` what happened. Every call takes the time, on one clock.
"""

from __future__ import annotations

from .codec import INTERNAL_ERROR, NO_VIABLE_PATH, PROTOCOL_VIOLATION, Train, apart
from .incoming import Incoming
from .outgoing import Outgoing
from .paths import Address
from .state import Closing, Event, Handover, State, StreamData

__all__ = ["Established"]

_BLACK_HOLE_TIMEOUTS = 3
_ROOM_TO_SAY_ANYTHING = 128


class Established:
    """All of 1-RTT, from the end of the handshake to that of the connection."""

    def __init__(self, start: Handover, now: float) -> None:
        """Nobody else may use the keys of ``start`` any more: a packet number must not be used twice."""
        self.state = State(start, now)
        self._incoming = Incoming(self.state)
        self._outgoing = Outgoing(self.state)
        self.state.replenish_ids()

    @property
    def closing(self) -> Closing | None:
        """Why it ends, if it does."""
        return self.state.closing

    @property
    def address(self) -> Address:
        """Where everything is sent."""
        return self.state.paths.active.address

    @property
    def proved_address(self) -> Address | None:
        """Where the peer showed last that it hears us."""
        return self.state.paths.proved

    @property
    def reset_tokens(self) -> list[bytes]:
        """By which a stateless reset of the peer is known (RFC 9000 section 10.3)."""
        return self.state.their_ids.tokens

    @property
    def datagram_size(self) -> int:
        """Bytes of a UDP payload that the path is known to carry."""
        return self.state.size.size

    @property
    def heard(self) -> float:
        """When the newest packet came; 0 before the first."""
        return self.state.received.largest_time

    @property
    def newest(self) -> int:
        """The highest number of the peer's packets."""
        return self.state.received.largest

    def receive(self, batch: list[tuple[bytes, Address]], now: float) -> None:
        """Take datagrams, each of which is one packet with a short header."""
        self.receive_trains([(pair[0], max(1, len(pair[0])), pair[1]) for pair in batch], now)

    def receive_trains(self, trains: list[Train], now: float) -> None:
        """The same, joined as they came."""
        if self.state.closing is None:
            self._incoming.receive(trains, now)

    def send(self, now: float) -> list[tuple[bytes, Address]]:
        """Everything that may leave now, and where to."""
        return apart(self.send_trains(now))

    def send_trains(self, now: float) -> list[Train]:
        """The same, joined where packets of one size go to one address."""
        state = self.state
        trains = self._outgoing.send(now)
        if state.closing is None and (state.recovery.too_many or state.recovery.loses_too_much):
            reason = "Too many packets on their way" if state.recovery.too_many else "Too much is said to be lost"
            self.close(PROTOCOL_VIOLATION, False, reason, now)
            trains += self._outgoing.send(now)
        return trains

    def take_events(self) -> list[Event]:
        """What happened since the last call."""
        state = self.state
        events, state.events = state.events, []
        readable = state.flow.readable
        if readable:
            data: list[Event] = []
            for stream in list(readable):
                receiving = stream.receiving
                del readable[stream]
                if receiving is not None:
                    if receiving.stop_code < 0:
                        data.append(StreamData(stream.id, receiving.hand_over(), receiving.ended))
                    state.flow.collect(stream)
            return data + events
        return events

    def timer(self) -> float | None:
        """When ``on_timer`` is due; None when everything is over."""
        state = self.state
        if state.over:
            return None
        if state.closing is not None:
            return state.close_at
        due = state.idle_at
        path = state.paths.active
        if path.room_for_others() >= _ROOM_TO_SAY_ANYTHING:
            if state.received.ack_at is not None:
                due = min(due, state.received.ack_at)
            lost = state.recovery.loss_at if not state.confirmed else state.recovery.timer()
            if lost is not None:
                due = min(due, lost)
        # No size is tried where nothing is proved: a timer that nobody acts on would be due for ever.
        larger = state.size.timer if state.confirmed and path.proved else None
        for at in (self._outgoing.pacing_at, path.asks_at(), path.deadline, larger):
            if at is not None:
                due = min(due, at)
        return due

    def on_timer(self, now: float) -> None:
        """Act on what is due."""
        state = self.state
        state.clock(now)
        if state.closing is not None:
            if now >= state.close_at:
                state.terminate()
            return
        if now >= state.idle_at:
            self._end_silently(INTERNAL_ERROR, "Idle timeout", now)
            return
        recovery = state.recovery
        lost = recovery.loss_at if not state.confirmed else recovery.timer()
        if lost is not None and now >= lost:
            recovery.on_timeout(now)
            state.settle()
            if recovery.timeouts >= _BLACK_HOLE_TIMEOUTS:
                state.size.black_hole(now)
                recovery.set_datagram(state.size.size)
        path = state.paths.active
        if not path.proved and path.deadline is not None and now >= path.deadline and not state.paths.give_up():
            self._end_silently(NO_VIABLE_PATH, "No validated network path", now)

    def open(self, uni: bool) -> int:
        """A new stream; its id."""
        return self.state.flow.open(uni).id

    def write(self, stream_id: int, data: bytes, end: bool) -> None:
        """Queue bytes of a stream, and its end with them."""
        stream = self.state.flow.streams.get(stream_id)
        if stream is not None and stream.sending is not None:
            stream.sending.write(data, end)
            self.state.flow.enqueue(stream)

    def reset(self, stream_id: int, code: int) -> None:
        """Give up writing a stream."""
        stream = self.state.flow.streams.get(stream_id)
        if stream is not None and stream.sending is not None:
            stream.sending.reset(code)
            self.state.flow.changed.add(-1 - stream_id)

    def stop(self, stream_id: int, code: int) -> None:
        """Ask the peer to give up writing a stream."""
        stream = self.state.flow.streams.get(stream_id)
        if stream is not None and stream.receiving is not None:
            stream.receiving.stop(code)
            self.state.flow.changed.add(-1 - stream_id)

    def grant(self, stream_id: int, offset: int) -> bool:
        """Let the peer send a stream up to ``offset``; whether it is worth telling now."""
        return self.state.flow.grant(stream_id, offset)

    def unacknowledged(self, stream_id: int) -> int:
        """Bytes of a stream that were written and not acknowledged."""
        stream = self.state.flow.streams.get(stream_id)
        return 0 if stream is None or stream.sending is None else stream.sending.end - stream.sending.base

    def unsent(self, stream_id: int) -> int:
        """Bytes of a stream that were written and never left."""
        stream = self.state.flow.streams.get(stream_id)
        return 0 if stream is None or stream.sending is None else stream.sending.unsent

    def arrived(self, stream_id: int) -> bool:
        """Whether the peer has all of a stream, its end included."""
        stream = self.state.flow.streams.get(stream_id)
        return stream is None or stream.sending is None or (stream.sending.done and stream.sending.reset_code < 0)

    def knows(self, stream_id: int) -> bool:
        """Whether the stream is not over for both sides."""
        return stream_id in self.state.flow.streams

    def ping(self) -> None:
        """Send something that the peer must answer."""
        self.state.ping = True

    def update_keys(self) -> bool:
        """Go on with the next keys, if that is allowed now."""
        return self._outgoing.update_keys()

    def close(self, code: int, by_application: bool, reason: str, now: float, frame_type: int = 0) -> None:
        """End it and tell the peer."""
        self.state.close(Closing(code, by_application, reason, frame_type), now, tell=True)

    def stateless_reset(self) -> None:
        """The peer knows nothing of it."""
        self._end_silently(NO_VIABLE_PATH, "Reset", 0.0)

    def _end_silently(self, code: int, reason: str, now: float) -> None:
        self.state.close(Closing(code, False, reason), now, tell=False)
        self.state.terminate()
