"""Takes an established connection out of aioquic: what both sides agreed on, and the keys, which nobody has twice.

RFC 9000 section 18.2 names what the peer allows. Not here: when (``quic``), and what follows (``established``).
"""

from __future__ import annotations

import os
from typing import Any

from aioquic import tls
from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.connection import QuicConnection, QuicConnectionError
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicTransportParameters,
    pull_quic_transport_parameters,
)

from pypatcher.addresses import Address
from pypatcher.established import ConnectionId, FlowLimits, Handover
from pypatcher.transport.stream import DEFAULT_WINDOW

__all__ = ["CONNECTION_WINDOW", "IDLE_TIMEOUT", "STREAMS", "hand_over"]

IDLE_TIMEOUT = 30.0
CONNECTION_WINDOW = 1 << 20
STREAMS = 4
"""Of each kind, that a peer may have open."""

_MAX_ACK_DELAY = 25
_ACK_EXPONENT = 3
_KNOWN_IDS = 2
_LARGEST_DATAGRAM = 65527
"""What is meant by a transport parameter that is not there (RFC 9000 section 18.2); the delay in milliseconds."""


def hand_over(quic: QuicConnection, address: Address, largest: int) -> Handover:
    """Everything about 1-RTT, at the moment that the handshake is complete; ``quic`` has no keys for it afterwards.

    Args:
        quic: the connection; it has sent and received nothing in 1-RTT.
        address: where the peer proved to be.
        largest: bytes of a UDP payload that may be tried.

    Raises:
        QuicConnectionError: 1-RTT is in use.
    """
    keys = quic._cryptos[tls.Epoch.ONE_RTT]
    suite, sending, receiving = keys.send.cipher_suite, keys.send.secret, keys.recv.secret
    space = quic._spaces[tls.Epoch.ONE_RTT]
    used = quic._streams or space.sent_packets or space.largest_received_packet >= 0
    if suite is None or sending is None or receiving is None or used:
        raise QuicConnectionError(QuicErrorCode.INTERNAL_ERROR, QuicFrameType.CRYPTO, "1-RTT is in use already")
    keys.teardown()
    quic._handshake_done_pending = False
    loss = quic._loss
    measured = loss._rtt_latest, loss._rtt_smoothed, loss._rtt_min, loss._rtt_variance
    parameters = _parameters(quic)
    idle = parameters.max_idle_timeout
    return Handover(
        is_client=quic._is_client,
        suite=int(suite),
        send_secret=sending,
        receive_secret=receiving,
        first_number=quic._packet_number,
        address=(address[0], address[1]),
        ours=[_id(each) for each in quic._host_cids],
        theirs=[_id(each) for each in (quic._peer_cid, *quic._peer_cid_available)],
        our_limits=FlowLimits(CONNECTION_WINDOW, DEFAULT_WINDOW, DEFAULT_WINDOW, DEFAULT_WINDOW, STREAMS, STREAMS),
        their_limits=_limits(parameters),
        id_limit=_or(parameters.active_connection_id_limit, _KNOWN_IDS),
        rtt=measured if loss._rtt_initialized else None,
        idle=min(IDLE_TIMEOUT, idle / 1000) if idle else IDLE_TIMEOUT,
        ack_delay=_or(parameters.max_ack_delay, _MAX_ACK_DELAY) / 1000,
        ack_exponent=_or(parameters.ack_delay_exponent, _ACK_EXPONENT),
        largest=min(largest, _or(parameters.max_udp_payload_size, _LARGEST_DATAGRAM)),
        random=os.urandom,
    )


def _parameters(quic: QuicConnection) -> QuicTransportParameters:
    extensions = dict(quic.tls.received_extensions or ())
    return pull_quic_transport_parameters(Buffer(data=extensions[tls.ExtensionType.QUIC_TRANSPORT_PARAMETERS]))


def _id(known: Any) -> ConnectionId:
    return ConnectionId(known.sequence_number, known.cid, known.stateless_reset_token or b"")


def _or(value: int | None, default: int) -> int:
    return default if value is None else value


def _limits(parameters: QuicTransportParameters) -> FlowLimits:
    return FlowLimits(
        data=parameters.initial_max_data or 0,
        own_bidi=parameters.initial_max_stream_data_bidi_local or 0,
        other_bidi=parameters.initial_max_stream_data_bidi_remote or 0,
        uni=parameters.initial_max_stream_data_uni or 0,
        streams_bidi=parameters.initial_max_streams_bidi or 0,
        streams_uni=parameters.initial_max_streams_uni or 0,
    )
