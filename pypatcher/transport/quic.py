"""Our kind of QUIC connection: what we override of aioquic's, and nothing that touches a socket or a clock.

design.md "Transport and transfer". aioquic has no parameter for a receiver's flow control that follows what was read,
for limits on what a peer may make us remember, nor for our TLS (``rawkeys``). These two are the modules that may use
names of aioquic that are not public; they were tested with aioquic 1.7.0, 1.7.1 and 1.7.2 (1.6 fails), and
``pyproject.toml`` allows 1.7 alone.

What a stranger can make us hold is decided here: bytes of a handshake, bytes of a stream, the gaps between them,
streams, packets of ours that nobody acknowledges, nothing else.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, cast

from aioquic import tls
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicConnectionState
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType, QuicProtocolVersion
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder
from aioquic.quic.recovery import QuicPacketPacer

from pypatcher.transport.ciphers import cipher_order
from pypatcher.transport.range_set import CRYPTO_FRAGMENTS, STREAM_FRAGMENTS, Fragments, TooManyFragmentsError
from pypatcher.transport.rawkeys import HANDSHAKE_LIMIT, QuicIdentity, RawKeyContext
from pypatcher.transport.stream import DEFAULT_WINDOW

if TYPE_CHECKING:
    from aioquic._buffer import Buffer

    from pypatcher.addresses import Address

__all__ = [
    "CONNECTION_ID_SIZE",
    "MIN_DATAGRAM_SIZE",
    "QUIC_VERSIONS",
    "RawKeyConnection",
]

CONNECTION_ID_SIZE = 8
"""Bytes of every connection id that we issue; design.md's demultiplexing rests on it."""

MIN_DATAGRAM_SIZE = 1200
"""What every path that carries QUIC can carry (RFC 9000 section 14)."""

QUIC_VERSIONS = [int(QuicProtocolVersion.VERSION_1)]

_IDLE_TIMEOUT = 30.0
_CONNECTION_WINDOW = 1 << 20
_STREAMS = 4
_ACK_FRAMES = 8
"""In one packet, where honest peers write one: each goes through all packets that are on their way."""

_SENT_PACKETS = 2048
"""Of which nobody said that they arrived. What a writer may be ahead, 1 MiB, is 900 of them."""

_BLACK_HOLE_TIMEOUTS = 3
_PATH_PROBES = 3
_SHORTEST_BURST = 0.002


class _Silent:
    """Keeps aioquic's lines about hostile peers out of the log; our own errors tell what a caller can act on."""

    def debug(self, *_args: object) -> None: ...
    def info(self, *_args: object) -> None: ...
    def warning(self, *_args: object) -> None: ...


class _Pacer(QuicPacketPacer):
    """Pacing that allows for timers with steps of a millisecond: a shorter burst would leave the line idle."""

    def update_rate(self, congestion_window: int, smoothed_rtt: float) -> None:
        super().update_rate(congestion_window=congestion_window, smoothed_rtt=smoothed_rtt)
        self.bucket_max = max(self.bucket_max, _SHORTEST_BURST)


class RawKeyConnection(QuicConnection):
    """aioquic's state machine with our TLS, a receive window that follows the reader, and path MTU probing.

    aioquic doubles its windows by what ARRIVED, so a peer could make us hold a whole file that nobody reads, and one
    frame behind a gap could allocate as much. Here a stream may run ahead of its reader by its window only.
    """

    def __init__(
        self,
        identity: QuicIdentity,
        alpns: list[str],
        *,
        peer_id: bytes | None = None,
        max_datagram_size: int = MIN_DATAGRAM_SIZE,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        """A server's side if ``original_destination_connection_id`` is given, a client's otherwise."""
        super().__init__(
            configuration=QuicConfiguration(
                is_client=original_destination_connection_id is None,
                alpn_protocols=alpns,
                certificate=identity.certificate,
                private_key=identity.private_key,
                cipher_suites=list(cipher_order()),
                connection_id_length=CONNECTION_ID_SIZE,
                idle_timeout=_IDLE_TIMEOUT,
                max_data=_CONNECTION_WINDOW,
                max_stream_data=DEFAULT_WINDOW,
                max_datagram_size=MIN_DATAGRAM_SIZE,
                supported_versions=list(QUIC_VERSIONS),
                verify_mode=ssl.CERT_NONE,
            ),
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            limit.value = limit.sent = _STREAMS
        self._logger = self._loss._logger = cast("Any", _Silent())
        self._loss._pacer = _Pacer(max_datagram_size=MIN_DATAGRAM_SIZE)
        self._expected_peer = peer_id
        self._ack_frames = 0
        self._probe_size = max_datagram_size if max_datagram_size > MIN_DATAGRAM_SIZE else 0
        self._probes_left = _PATH_PROBES - 1

    @property
    def peer_id(self) -> bytes | None:
        """The peer's 32-byte node id once the handshake is complete, else None."""
        return self._raw_tls.peer_id if self._handshake_complete else None

    @property
    def proved_address(self) -> Address | None:
        """Where the peer showed last that it hears us; where its packets seem to come from may be forged."""
        for path in self._network_paths:
            if path.is_validated:
                return path.addr[0], path.addr[1]
        return None

    @property
    def closing(self) -> tuple[int, bool, str] | None:
        """Error code, whether the application closed (else QUIC did), and reason; None while open."""
        event = self._close_event
        return None if event is None else (event.error_code, event.frame_type is None, event.reason_phrase)

    @property
    def reset_tokens(self) -> list[bytes]:
        """Stateless reset tokens that this peer gave us (RFC 9000 section 10.3)."""
        known = [self._peer_cid, *self._peer_cid_available]
        return [cid.stateless_reset_token for cid in known if cid.stateless_reset_token]

    def stateless_reset(self) -> None:
        """The peer has forgotten this connection: end it without another word."""
        if self._close_event is None:
            self.close(error_code=QuicErrorCode.NO_VIABLE_PATH, frame_type=QuicFrameType.PADDING, reason_phrase="Reset")
            self._close_pending = False
            self._close_end()

    @property
    def heard(self) -> float:
        """When the peer's newest packet came, on the clock of ``receive_datagram``; 0 before the first."""
        return self._spaces[tls.Epoch.ONE_RTT].largest_received_time or 0.0

    @property
    def newest(self) -> tuple[int, ...]:
        """The highest numbers of the peer's packets: they change by what only the peer can have sent, and once each."""
        return tuple(space.largest_received_packet for space in self._spaces.values())

    def unacknowledged(self, stream_id: int) -> int:
        """Bytes of a stream that were given to ``send_stream_data`` and not acknowledged yet."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender._buffer_start

    def unsent(self, stream_id: int) -> int:
        """Bytes of a stream that were given to ``send_stream_data`` and never left."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.sender._buffer_stop - stream.sender.highest_offset

    def all_sent_arrived(self, stream_id: int) -> bool:
        """Whether the peer acknowledged everything including the end of the stream."""
        stream = self._streams.get(stream_id)
        return stream is None or bool(stream.sender.is_finished)

    def forgot(self, stream_id: int) -> bool:
        """Whether the stream is over for both sides, or was never known."""
        return stream_id not in self._streams

    @property
    def started(self) -> bool:
        """Whether one packet of the peer was genuine."""
        return bool(self._state != QuicConnectionState.FIRSTFLIGHT)

    def grant(self, stream_id: int, offset: int) -> bool:
        """Let the peer send up to ``offset``; returns whether it is worth telling now."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.receiver.is_finished or offset <= stream.max_stream_data_local:
            return False
        ahead = offset - stream.receiver.starting_offset()
        if (offset - stream.max_stream_data_local) * 4 < ahead:
            return False
        stream.max_stream_data_local = offset
        return True

    # What is overridden. Handlers are looked up on self by the parent's constructor.

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls = self._raw_tls = RawKeyContext(self.tls, self._configuration, self._expected_peer)
        for stream in self._crypto_streams.values():
            stream.receiver._ranges = cast("Any", Fragments(CRYPTO_FRAGMENTS))

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> Any:
        stream = super()._get_or_create_stream(frame_type, stream_id)
        if not isinstance(stream.receiver._ranges, Fragments):
            stream.receiver._ranges = cast("Any", Fragments(STREAM_FRAGMENTS))
        return stream

    def _payload_received(self, context: Any, plain: bytes, crypto_frame_required: bool = False) -> tuple[bool, bool]:
        self._ack_frames = 0
        try:
            return super()._payload_received(context, plain, crypto_frame_required)
        except TooManyFragmentsError:
            error = QuicErrorCode.PROTOCOL_VIOLATION
            raise QuicConnectionError(error, QuicFrameType.PADDING, "Too many gaps in what was sent") from None

    def _alpn_handler(self, alpn_protocol: str) -> None:
        self._raw_tls.check_certificate_types()
        super()._alpn_handler(alpn_protocol)

    def _handle_ack_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        self._ack_frames += 1
        if self._ack_frames > _ACK_FRAMES:
            raise QuicConnectionError(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "Too many acknowledgements")
        super()._handle_ack_frame(context, frame_type, buf)

    def _probe_preferred_address(self) -> None:
        """Stay where the handshake was: a server that names a third address would have all its clients probe that."""
        self._remote_preferred_address = None

    def _handle_crypto_frame(self, context: Any, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(start)
        if end - self._crypto_streams[context.epoch].receiver.starting_offset() > HANDSHAKE_LIMIT:
            raise QuicConnectionError(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, "Handshake is too long")
        super()._handle_crypto_frame(context, frame_type, buf)

    def _write_stream_limits(self, builder: QuicPacketBuilder, space: object, stream: Any) -> None:
        limit = stream.max_stream_data_local
        if limit and stream.max_stream_data_local_sent != limit and not stream.receiver.is_finished:
            buf = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=17,
                handler=self._on_max_stream_data_delivery,
                handler_args=(stream,),
            )
            buf.push_uint_var(stream.stream_id)
            buf.push_uint_var(limit)
            stream.max_stream_data_local_sent = limit

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        # Before the handshake is complete no address changes (RFC 9000, 9): its last packet, from a forged address,
        # would prove that one to aioquic.
        if self._is_client or self._handshake_complete or all(path.addr == addr for path in self._network_paths):
            super().receive_datagram(data, addr, now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        datagrams: list[tuple[bytes, Any]] = super().datagrams_to_send(now=now)
        if self._probe_size and self._handshake_confirmed and self._close_event is None:
            datagrams += self._path_probe(now)
        for space in self._spaces.values():
            if len(space.sent_packets) > _SENT_PACKETS:
                self._forget_acknowledgements(space.sent_packets)
        return datagrams

    def _forget_acknowledgements(self, sent: dict[int, Any]) -> None:
        """A peer that is silent about our ACKs would have us remember each of them."""
        for number, packet in list(sent.items()):
            if not (packet.in_flight or packet.is_ack_eliciting):
                del sent[number]
        if len(sent) > _SENT_PACKETS:
            self.close(QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, "Too many packets on their way")

    def handle_timer(self, now: float) -> None:
        super().handle_timer(now=now)
        if self._loss._pto_count >= _BLACK_HOLE_TIMEOUTS:
            self._set_datagram_size(MIN_DATAGRAM_SIZE)

    def _path_probe(self, now: float) -> list[tuple[bytes, Any]]:
        """One padded PING of the size we would like (RFC 8899); its loss is no sign of congestion."""
        size, self._probe_size = self._probe_size, 0
        builder = QuicPacketBuilder(
            host_cid=self.host_cid,
            peer_cid=self._peer_cid.cid,
            version=QUIC_VERSIONS[0],
            is_client=self._is_client,
            max_datagram_size=size,
            packet_number=self._packet_number,
            spin_bit=self._spin_bit,
        )
        builder.start_packet(QuicPacketType.ONE_RTT, self._cryptos[tls.Epoch.ONE_RTT])
        buf = builder.start_frame(QuicFrameType.PING, handler=self._on_path_probe_delivery, handler_args=(size,))
        buf.push_bytes(bytes(builder.remaining_buffer_space))
        packet = builder._packet
        if packet is not None:
            packet.in_flight = False
        self._loss._time_of_last_sent_ack_eliciting_packet = now
        sent: list[tuple[bytes, Any]] = self._flush_builder(
            builder=builder, network_path=self._network_paths[0], peer_cid=self._peer_cid.cid, now=now
        )
        return sent

    def _on_path_probe_delivery(self, delivery: QuicDeliveryState, size: int) -> None:
        if delivery == QuicDeliveryState.ACKED:
            self._set_datagram_size(size)
        elif self._probes_left:
            self._probes_left -= 1
            self._probe_size = size

    def _set_datagram_size(self, size: int) -> None:
        self._max_datagram_size = size
        for part in (self._loss._pacer, cast("Any", self._loss._cc)):
            part._max_datagram_size = size
