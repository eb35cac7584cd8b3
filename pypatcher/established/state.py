"""What both directions of an established connection share, and what it starts with. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .codec import (
    HANDSHAKE_DONE,
    MAX_DATA,
    MAX_STREAM_DATA,
    MAX_STREAMS_BIDI,
    MAX_STREAMS_UNI,
    NEW_CONNECTION_ID,
    RESET_STREAM,
    RETIRE_CONNECTION_ID,
    STOP_SENDING,
)
from .flow import Flow, FlowLimits
from .ids import ConnectionId, OurIds, TheirIds
from .paths import Address, Paths, PathSize
from .protection import Opener, Sealer
from .received import Received
from .recovery import Recovery, SentPacket
from .streams import QuicStream

__all__ = [
    "Closing", "Confirmed", "Event", "Handover", "IdIssued", "IdRetired", "State", "StreamData", "StreamReset",
    "StreamStopped", "Terminated",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Handover:
    """An established connection, as the handshake leaves it.

    Attributes:
        is_client: whether this side dialed.
        suite: the cipher suite of TLS.
        send_secret: the traffic secret of this side.
        receive_secret: that of the peer.
        first_number: the first packet number that may be used.
        address: where the peer is.
        ours: connection ids that the peer may use; it knows the first one.
        theirs: the one to use, and spare ones.
        our_limits: what the peer may send.
        their_limits: what this side may send.
        id_limit: how many connection ids the peer keeps.
        rtt: latest, smoothed, least and variance, in seconds, if the handshake measured it.
        idle: seconds of silence after which it is over.
        ack_delay: seconds for which the peer may hold an acknowledgement back.
        ack_exponent: the unit in which it says for how long it did.
        largest: bytes of a UDP payload to try.
        random: draws so many bytes.
    """

    is_client: bool
    suite: int
    send_secret: bytes = field(repr=False)
    receive_secret: bytes = field(repr=False)
    first_number: int
    address: Address
    ours: list[ConnectionId]
    theirs: list[ConnectionId]
    our_limits: FlowLimits
    their_limits: FlowLimits
    id_limit: int
    rtt: tuple[float, float, float, float] | None
    idle: float
    ack_delay: float
    ack_exponent: int
    largest: int
    random: Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class StreamData:
    """The next bytes of a stream, and whether they are its last."""

    stream_id: int
    data: bytes
    end: bool


@dataclass(frozen=True, slots=True)
class StreamReset:
    """The peer gave up writing a stream."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class StreamStopped:
    """The peer reads no more of a stream."""

    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class IdIssued:
    """The peer may call us so."""

    value: bytes


@dataclass(frozen=True, slots=True)
class IdRetired:
    """It does no more."""

    value: bytes


@dataclass(frozen=True, slots=True)
class Confirmed:
    """The server knows that the handshake is complete: nothing of it is needed any more."""


@dataclass(frozen=True, slots=True)
class Terminated:
    """Everything is over."""


Event = StreamData | StreamReset | StreamStopped | IdIssued | IdRetired | Confirmed | Terminated


@dataclass(frozen=True, slots=True)
class Closing:
    """Why a connection ends: the code, whether the application says so (else QUIC), and words.

    Attributes:
        frame_type: the frame that was wrong, if one was.
    """

    code: int
    by_application: bool
    reason: str
    frame_type: int = 0


class State:
    """All of it that is not bytes on their way."""

    def __init__(self, start: Handover, now: float) -> None:
        """The handshake is complete."""
        self.is_client = start.is_client
        self.random = start.random
        self.sealer = Sealer(start.suite, start.send_secret)
        self.opener = Opener(start.suite, start.receive_secret)
        self.phase_since = start.first_number
        """The first packet number under the keys that this side sends with."""
        self.old_keys_until = 0.0
        self.received = Received()
        self.flow = Flow(start.is_client, start.our_limits, start.their_limits)
        self.our_ids = OurIds(start.ours, start.ours[-1].number + 1, start.id_limit)
        self.their_ids = TheirIds(start.theirs[0], start.theirs[1:])
        self.paths = Paths(start.address)
        self.size = PathSize(start.largest)
        self.recovery = Recovery(self.size.size)
        self.recovery.next_number = start.first_number
        self.recovery.peer_ack_delay = start.ack_delay
        self.recovery.peer_exponent = start.ack_exponent
        if start.rtt is not None:
            self.recovery.measured(*start.rtt)
        self.id_size = len(start.ours[0].value)
        self.host_id = start.ours[0].value
        """What the peer calls us now."""
        self.idle = start.idle
        self.idle_at = now + self.idle_seconds()
        self.sent_since_heard = False
        self.confirmed = not start.is_client
        self.pending: set[int] = set() if start.is_client else {HANDSHAKE_DONE}
        """Control frames to be sent, by their types, that are of no stream and have no number."""
        self.ping = False
        self.events: list[Event] = []
        self.closing: Closing | None = None
        self.close_at = 0.0
        self.close_pending = False
        self.over = False
        self._now = now

    def idle_seconds(self) -> float:
        """After how long a silence it is over (RFC 9000 section 10.1)."""
        return max(self.idle, 3 * self.recovery.probe_timeout())

    def close(self, closing: Closing, now: float, tell: bool) -> None:
        """Begin to end it; ``tell`` the peer, or stay silent."""
        if self.closing is None:
            self.closing = closing
            self.close_pending = tell
            self.close_at = now + 3 * self.recovery.probe_timeout()
            self.recovery.forget_all()

    def terminate(self) -> None:
        """It is over."""
        if not self.over:
            self.over = True
            self.close_pending = False
            self.events.append(Terminated())

    def replenish_ids(self) -> None:
        """Let the peer have as many ids of ours as it keeps."""
        for _ in range(self.our_ids.missing):
            self.our_ids.issue(self.random(self.id_size), self.random(16))

    def clock(self, now: float) -> None:
        """What happens now happens at ``now``."""
        self._now = now

    def settle(self) -> None:
        """Act on what arrived and on what is lost.

        Raises:
            TooManyFragmentsError: only every second packet arrived, over and over.
        """
        recovery = self.recovery
        if recovery.arrived:
            arrived, recovery.arrived = recovery.arrived, []
            for packet in arrived:
                self._arrived(packet)
        if recovery.again:
            again, recovery.again = recovery.again, []
            for packet in again:
                self._lost(packet)

    def _arrived(self, packet: SentPacket) -> None:
        """A packet arrived, and what it carried."""
        stream = packet.stream
        if stream is not None:
            self._data_acked(stream, packet.start, packet.end, packet.fin)
            if packet.more is not None:
                for stream, start, end, fin in packet.more:
                    self._data_acked(stream, start, end, fin)
        if packet.acked >= 0:
            self.received.forget(packet.acked)
        if packet.probe:
            self.size.acked(packet.probe, self._now)
            self.recovery.set_datagram(self.size.size)
        if packet.controls is not None:
            for kind, which in packet.controls:
                if kind == RESET_STREAM and (known := self.flow.streams.get(which)) is not None:
                    if known.sending is not None:
                        known.sending.reset_acked = True
                    self.flow.collect(known)

    def _lost(self, packet: SentPacket) -> None:
        """A packet did not arrive: what it carried, and still matters, is sent again."""
        stream = packet.stream
        if stream is not None:
            self._data_lost(stream, packet.start, packet.end, packet.fin)
            if packet.more is not None:
                for stream, start, end, fin in packet.more:
                    self._data_lost(stream, start, end, fin)
        if packet.probe:
            self.size.lost(packet.probe, self._now)
        if packet.controls is not None:
            for kind, which in packet.controls:
                self._control_lost(kind, which)

    def _data_acked(self, stream: QuicStream, start: int, end: int, fin: bool) -> None:
        sending = stream.sending
        if sending is not None and sending.reset_code < 0:
            sending.acked(start, end, fin)
            if sending.fin_acked and sending.base == sending.end:
                self.flow.collect(stream)

    def _data_lost(self, stream: QuicStream, start: int, end: int, fin: bool) -> None:
        sending = stream.sending
        if sending is not None and sending.reset_code < 0 and not sending.done:
            sending.lost(start, end, fin)
            self.flow.enqueue(stream)

    def _control_lost(self, kind: int, which: int) -> None:
        if kind in (MAX_DATA, MAX_STREAMS_BIDI, MAX_STREAMS_UNI):
            self.flow.changed.add(kind)
        elif kind == HANDSHAKE_DONE:
            self.pending.add(kind)
        elif kind == NEW_CONNECTION_ID:
            self.our_ids.to_send.append(which)
        elif kind == RETIRE_CONNECTION_ID:
            self.their_ids.to_retire.append(which)
        elif (stream := self.flow.streams.get(which)) is not None:
            if kind == MAX_STREAM_DATA and stream.receiving is not None and stream.receiving.final < 0:
                stream.receiving.limit_pending = True
            elif kind == STOP_SENDING and stream.receiving is not None and not stream.receiving.done:
                stream.receiving.stop_pending = True
            elif kind == RESET_STREAM and stream.sending is not None and not stream.sending.reset_acked:
                stream.sending.reset_pending = True
            else:
                return
            self.flow.changed.add(-1 - which)
