"""Our kind of QUIC connection: aioquic's handshake, then our own 1-RTT. Nothing here touches a socket or a clock.

design.md "Transport and transfer". aioquic does what has a long header. When the handshake is complete, all of 1-RTT
goes over to ``established``, and aioquic's keys for it are torn down: two writers under one key would use a packet
number twice, and with AES-GCM that gives the key away. aioquic has no parameter for limits on what a peer may make us
remember, nor for our TLS (``rawkeys``). These two and ``handover`` may use names of aioquic that are not public; they
were tested with aioquic 1.7.0, 1.7.1 and 1.7.2 (1.6 fails), and ``pyproject.toml`` allows 1.7 alone.

What a stranger can make us hold before the handshake is complete is decided here: bytes of it, the gaps between them.
"""

from __future__ import annotations

import ssl
from collections import deque
from typing import TYPE_CHECKING, Any, cast

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection, QuicConnectionError, QuicConnectionState
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicProtocolVersion,
)

from pypatcher.established import (
    Confirmed,
    Established,
    Event,
    Train,
    apart,
    behind_long_headers,
    have_short_headers,
)
from pypatcher.established.range_set import CRYPTO_FRAGMENTS, Fragments, TooManyFragmentsError
from pypatcher.transport.ciphers import cipher_order
from pypatcher.transport.handover import CONNECTION_WINDOW, IDLE_TIMEOUT, STREAMS, hand_over
from pypatcher.transport.rawkeys import HANDSHAKE_LIMIT, QuicIdentity, RawKeyContext
from pypatcher.transport.stream import DEFAULT_WINDOW

if TYPE_CHECKING:
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

_ACK_FRAMES = 8
"""In one packet, where honest peers write one: each goes through all packets that are on their way."""

_EARLY_PACKETS = 4
"""That came before the end of the handshake, which they overtook."""


class _Silent:
    """Keeps aioquic's lines about hostile peers out of the log; our own errors tell what a caller can act on."""

    def debug(self, *_args: object) -> None: ...
    def info(self, *_args: object) -> None: ...
    def warning(self, *_args: object) -> None: ...


class RawKeyConnection(QuicConnection):
    """aioquic's handshake with our TLS, and behind it our own 1-RTT."""

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
                idle_timeout=IDLE_TIMEOUT,
                max_data=CONNECTION_WINDOW,
                max_stream_data=DEFAULT_WINDOW,
                max_datagram_size=MIN_DATAGRAM_SIZE,
                supported_versions=list(QUIC_VERSIONS),
                verify_mode=ssl.CERT_NONE,
            ),
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        for limit in (self._local_max_streams_bidi, self._local_max_streams_uni):
            limit.value = limit.sent = STREAMS
        self._logger = self._loss._logger = cast("Any", _Silent())
        self._expected_peer = peer_id
        self._ack_frames = 0
        self._largest_datagram = max_datagram_size
        self._now = 0.0
        self._early: list[Train] = []
        """Of 1-RTT, before there are keys for it (RFC 9001 section 5.7)."""
        self._after: deque[Event] = deque()
        self.established: Established | None = None
        """All of 1-RTT, once the handshake is complete."""

    @property
    def peer_id(self) -> bytes | None:
        """The peer's 32-byte node id once the handshake is complete, else None."""
        return self._raw_tls.peer_id if self._handshake_complete else None

    @property
    def proved_address(self) -> Address | None:
        """Where the peer showed last that it hears us; where its packets seem to come from may be forged."""
        if self.established is not None:
            return self.established.proved_address
        for path in self._network_paths:
            if path.is_validated:
                return path.addr[0], path.addr[1]
        return None

    @property
    def closing(self) -> tuple[int, bool, str] | None:
        """Error code, whether the application closed (else QUIC did), and reason; None while open."""
        if self.established is not None:
            closing = self.established.closing
            return None if closing is None else (closing.code, closing.by_application, closing.reason)
        event = self._close_event
        return None if event is None else (event.error_code, event.frame_type is None, event.reason_phrase)

    @property
    def reset_tokens(self) -> list[bytes]:
        """Stateless reset tokens that this peer gave us (RFC 9000 section 10.3)."""
        return [] if self.established is None else self.established.reset_tokens

    def stateless_reset(self) -> None:
        """The peer has forgotten this connection: end it without another word."""
        if self.established is not None:
            self.established.stateless_reset()
            self._pull()

    @property
    def heard(self) -> float:
        """When the peer's newest packet came, on the clock of ``receive_datagram``; 0 before the first."""
        return 0.0 if self.established is None else self.established.heard

    @property
    def newest(self) -> tuple[int, ...]:
        """The highest numbers of the peer's packets: they change by what only the peer can have sent, and once each."""
        newest = -1 if self.established is None else self.established.newest
        return (*(space.largest_received_packet for space in self._spaces.values()), newest)

    @property
    def datagram_size(self) -> int:
        """Bytes of a UDP payload that the path is known to carry."""
        return MIN_DATAGRAM_SIZE if self.established is None else self.established.datagram_size

    @property
    def started(self) -> bool:
        """Whether one packet of the peer was genuine."""
        return bool(self._state != QuicConnectionState.FIRSTFLIGHT)

    # Streams; there are none before the handshake is complete.

    @property
    def streams(self) -> Established:
        """What knows about streams.

        Raises:
            RuntimeError: the handshake is not complete.
        """
        if self.established is None:
            raise RuntimeError("there are no streams before the handshake is complete")
        return self.established

    def receive(self, trains: list[Train], now: float) -> None:
        """Take datagrams that came together; only those with short headers may be joined."""
        self._now = now
        short = self._early
        if self.established is not None and not short and have_short_headers(trains):
            short, trains = trains, []
        for data, size, address in trains:
            if not data[0] & 0x80:
                if self.established is None:  # of what waits only that much is kept
                    short += [(each, size, address) for each, _ in apart([(data, size, address)])[:_EARLY_PACKETS]]
                else:
                    short.append((data, size, address))
                continue
            if not self._handshake_confirmed:
                self._receive_handshake(data, address, now)
            if rest := behind_long_headers(data):
                short.append((rest, len(rest), address))
        if self.established is None:
            del short[_EARLY_PACKETS:]
        elif short:
            self._early = []
            self.established.receive_trains(short, now)
            self._pull()

    def trains_to_send(self, now: float) -> list[Train]:
        """Everything that may leave now, joined where packets of one size go to one address."""
        self._now = now
        trains: list[Train] = []
        if not self._handshake_confirmed:
            trains = [(data, len(data), address) for data, address in super().datagrams_to_send(now=now)]
        if self.established is not None:
            trains += self.established.send_trains(now)
            self._pull()
        return trains

    # What is overridden. Handlers are looked up on self by the parent's constructor.

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        self.receive([(data, len(data), addr)], now)

    def datagrams_to_send(self, now: float) -> list[tuple[bytes, Any]]:
        return apart(self.trains_to_send(now))

    def get_timer(self) -> float | None:
        if self.established is None:
            return super().get_timer()
        due = self.established.timer()
        if due is None or self._handshake_confirmed or self.established.closing is not None:
            return due
        handshake = super().get_timer()
        return due if handshake is None else min(due, handshake)

    def handle_timer(self, now: float) -> None:
        self._now = now
        if self.established is None:
            super().handle_timer(now=now)
            return
        if not self._handshake_confirmed and self.established.closing is None:
            handshake = super().get_timer()
            if handshake is not None and handshake <= now:
                super().handle_timer(now=now)
        due = self.established.timer()
        if due is not None and due <= now:
            self.established.on_timer(now)
        self._pull()

    def next_event(self) -> events.QuicEvent | Event | None:  # type: ignore[override]
        return super().next_event() or (self._after.popleft() if self._after else None)

    def close(self, error_code: int = 0, frame_type: int | None = None, reason_phrase: str = "") -> None:
        if self.established is None or not self._handshake_confirmed:
            # A server that lacks the end of our handshake cannot read 1-RTT (RFC 9000 section 10.2.3).
            super().close(error_code=error_code, frame_type=frame_type, reason_phrase=reason_phrase)
        if self.established is not None:
            self.established.close(error_code, frame_type is None, reason_phrase, self._now, frame_type or 0)

    def request_key_update(self) -> None:
        if self.established is not None:
            self.established.update_keys()

    def get_peer_address(self) -> Address | None:
        if self.established is not None:
            return self.established.address
        return cast("Address | None", super().get_peer_address())

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self.tls = self._raw_tls = RawKeyContext(self.tls, self._configuration, self._expected_peer)
        for stream in self._crypto_streams.values():
            stream.receiver._ranges = cast("Any", Fragments(CRYPTO_FRAGMENTS))

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
        if self._handshake_complete and self.established is None:
            self._hand_over(context.network_path.addr, context.time)

    def _update_traffic_key(self, direction: Any, epoch: tls.Epoch, cipher_suite: Any, secret: bytes) -> None:
        if self.established is not None:
            raise QuicConnectionError(
                QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.CRYPTO, "There are keys for everything already"
            )
        super()._update_traffic_key(direction, epoch, cipher_suite, secret)

    def _receive_handshake(self, data: bytes, address: Address, now: float) -> None:
        # Before the handshake is complete no address changes (RFC 9000, 9): its last packet, from a forged address,
        # would prove that one to aioquic.
        if self._is_client or self._handshake_complete or all(path.addr == address for path in self._network_paths):
            super().receive_datagram(data, address, now)
        event = self._close_event
        if event is not None and self.established is not None:
            application = event.frame_type is None
            self.established.close(event.error_code, application, event.reason_phrase, now, event.frame_type or 0)

    def _pull(self) -> None:
        if self.established is None:
            return
        for event in self.established.take_events():
            if isinstance(event, Confirmed):
                self._confirm_handshake()
            else:
                self._after.append(event)

    def _hand_over(self, address: Address, now: float) -> None:
        """Give 1-RTT away, and the keys with it."""
        self.established = Established(hand_over(self, address, self._largest_datagram), now)
