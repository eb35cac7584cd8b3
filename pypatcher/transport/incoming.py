"""Answers the first packet of a connection: accept, ask for proof of the address (Retry), refuse, or drop.

RFC 9000 sections 6 (version negotiation) and 8.1 (Retry). No state is kept for any of the answers, each is smaller
than the packet that it answers, and none is sent to something that could be such an answer itself. Sans-IO: no socket
and no clock. Not here: how many connections there may be (``admission``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from aioquic.buffer import Buffer  # type: ignore[attr-defined]
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import (
    QuicErrorCode,
    QuicFrameType,
    QuicHeader,
    QuicPacketType,
    encode_quic_retry,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from aioquic.quic.packet_builder import QuicPacketBuilder
from aioquic.quic.retry import QuicRetryTokenHandler

from pypatcher.addresses import Address, network_of
from pypatcher.limits import RateLimiter
from pypatcher.transport.admission import Admission, Verdict
from pypatcher.transport.quic import (
    CONNECTION_ID_SIZE,
    MIN_DATAGRAM_SIZE,
    QUIC_VERSIONS,
)

__all__ = ["FrontDoor", "Welcome"]

_CALM = 200.0, 400.0
"""First packets of all together, a second and at once: more is a flood."""
_FLOODED = 10.0, 20.0
"""First packets of one network in a flood."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """A connection may be made, with these connection ids.

    Attributes:
        destination_id: what the client calls us until it hears our own connection id.
        original_id: what it called us first; another than ``destination_id`` if it proved its address.
        retry_id: the connection id of our Retry, if it proved its address.
    """

    destination_id: bytes
    original_id: bytes
    retry_id: bytes | None


class FrontDoor:
    """Looks at packets with a long header that belong to no connection."""

    def __init__(self, admission: Admission) -> None:
        """``admission`` decides; it is told of connections by the endpoint."""
        self._admission = admission
        self._tokens = QuicRetryTokenHandler()
        self._all, self._each = RateLimiter(*_CALM, capacity=1), RateLimiter(*_FLOODED)

    def is_flooded(self, source: Address, now: float) -> bool:
        """Whether a first packet from there is one too many, and not worth a look.

        Only in a flood is a network held to its share: else a few packets in its name would shut it out.
        """
        return not self._all.allow(None, now) and not self._each.allow(network_of(source), now)

    def answer(self, data: bytes, source: Address, now: float, full: bool) -> bytes | Welcome | None:
        """A datagram to send back, a welcome, or None for silence; ``full`` refuses whoever it is."""
        header = _read_header(data)
        if header is None:
            return None
        if header.version not in QUIC_VERSIONS:
            return self._other_versions(header)
        original_id = self._proved(header, source, now)
        verdict = Verdict.REFUSE if full else self._admission.judge(source, original_id is not None, now)
        if verdict is Verdict.IGNORE:
            return None
        if verdict is Verdict.REFUSE:
            return _connection_refused(header.destination_cid, header.source_cid)
        if verdict is Verdict.VALIDATE:
            return self._retry(header, source, now)
        called = header.destination_cid
        return Welcome(called, original_id or called, None if original_id is None else called)

    def _proved(self, header: QuicHeader, source: Address, now: float) -> bytes | None:
        """The connection id of the first try, if the packet carries our token for its address."""
        if not header.token:
            return None
        try:
            original_id: bytes = self._tokens.validate_token(
                address=source, destination_cid=header.destination_cid, token=header.token, now=now
            )
        except ValueError:
            # Somebody else's, or an old one: as good as none.
            return None
        return original_id

    def _other_versions(self, header: QuicHeader) -> bytes:
        answer: bytes = encode_quic_version_negotiation(
            source_cid=header.destination_cid, destination_cid=header.source_cid, supported_versions=QUIC_VERSIONS
        )
        return answer

    def _retry(self, header: QuicHeader, source: Address, now: float) -> bytes:
        retry_id = os.urandom(CONNECTION_ID_SIZE)
        answer: bytes = encode_quic_retry(
            version=QUIC_VERSIONS[0],
            source_cid=retry_id,
            destination_cid=header.source_cid,
            original_destination_cid=header.destination_cid,
            retry_token=self._tokens.create_token(
                address=source,
                original_destination_connection_id=header.destination_cid,
                retry_source_connection_id=retry_id,
                now=now,
            ),
        )
        return answer


def _read_header(data: bytes) -> QuicHeader | None:
    """The header of what may be a first packet: an INITIAL of our version, or anything of another version."""
    if len(data) < MIN_DATAGRAM_SIZE:
        return None
    try:
        header: QuicHeader = pull_quic_header(Buffer(data=data), host_cid_length=CONNECTION_ID_SIZE)
    except ValueError:
        return None
    if header.version in QUIC_VERSIONS:
        first = header.packet_type == QuicPacketType.INITIAL and len(header.destination_cid) >= CONNECTION_ID_SIZE
        return header if first else None
    # Version 0 is itself a version negotiation: answering it could go on for ever between two nodes.
    return header if header.version else None


def _connection_refused(destination_id: bytes, source_id: bytes) -> bytes:
    """The answer to a first packet that we have no place for, made without any state; shorter than the packet.

    Args:
        destination_id: the connection id that the client chose for us; its packets are encrypted with it.
        source_id: the client's own.
    """
    crypto = CryptoPair()
    crypto.setup_initial(cid=destination_id, is_client=False, version=QUIC_VERSIONS[0])
    builder = QuicPacketBuilder(
        host_cid=destination_id,
        is_client=False,
        max_datagram_size=MIN_DATAGRAM_SIZE,
        peer_cid=source_id,
        version=QUIC_VERSIONS[0],
    )
    builder.start_packet(QuicPacketType.INITIAL, crypto)
    buf = builder.start_frame(QuicFrameType.TRANSPORT_CLOSE, capacity=4)
    for value in (QuicErrorCode.CONNECTION_REFUSED, QuicFrameType.PADDING, 0):
        buf.push_uint_var(value)
    (datagram,), _ = builder.flush()
    return bytes(datagram)
