"""Clients without a key, with a false one, or with a handshake that never ends: no service, and bounded memory.

RFC 7250 and design.md "Transport and transfer": both sides show an ed25519 raw public key, and nothing else is
accepted.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pypatcher.errors import PeerError
from pypatcher.keys import KeyPair
from pypatcher.transfer import wire
from pypatcher.transport import Endpoint
from pypatcher.transport.quic import RawKeyConnection
from pypatcher.transport.rawkeys import QuicIdentity
from tests.support.siege import MINUTE, Siege
from tests.support.transport import ALPN, OWNER_KEY, open_endpoint


async def test_a_client_without_a_key_ends_its_handshake(honest: Siege) -> None:
    async with open_endpoint() as client:
        client._identity = replace(client._identity, certificate=None)
        await expect_no_service(honest, client)


class _Certificate:
    """Stands where our raw key stands, and shows other bytes."""

    def __init__(self, shown: bytes) -> None:
        self.shown = shown

    def public_bytes(self, _encoding: object) -> bytes:
        return self.shown


@pytest.mark.parametrize(
    "shown",
    [
        b"",
        bytes(44),
        bytes.fromhex("302a300506032b656e032100") + bytes(32),
        bytes.fromhex("302a300506032b6570032100") + bytes(33),
        bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200") + bytes(65),
    ],
    ids=["nothing", "zeros", "x25519", "a byte too long", "p256"],
)
async def test_a_client_with_a_key_of_another_type_ends_its_handshake(honest: Siege, shown: bytes) -> None:
    async with open_endpoint() as client:
        client._identity = replace(client._identity, certificate=_Certificate(shown))
        await expect_no_service(honest, client)


async def test_a_client_that_shows_somebody_elses_key_ends_its_handshake(honest: Siege) -> None:
    async with open_endpoint() as client:
        client._identity = QuicIdentity(
            client.node_id, Ed25519PrivateKey.generate(), QuicIdentity.from_pair(KeyPair.generate()).certificate
        )
        await expect_no_service(honest, client)


async def test_a_client_of_the_certificate_world_is_refused(honest: Siege, monkeypatch: pytest.MonkeyPatch) -> None:
    original = RawKeyConnection._initialize

    def without_raw_keys(self: RawKeyConnection, peer_cid: bytes) -> None:
        original(self, peer_cid)
        if self._is_client:
            self.tls.handshake_extensions = self.tls.handshake_extensions[:1]

    async with open_endpoint() as client:
        with monkeypatch.context() as patch:
            patch.setattr(RawKeyConnection, "_initialize", without_raw_keys)
            with pytest.raises(PeerError, match="Raw public keys"):
                await client.connect(honest.address, node_id=None, alpn=ALPN, timeout=2)


async def expect_no_service(server: Siege, client: Endpoint) -> None:
    """The client may believe for a moment that it is connected; it is served nothing and told to go."""
    with pytest.raises(PeerError):
        connection = await client.connect(server.address, node_id=None, alpn=ALPN, timeout=2)
        stream = await connection.open_stream()
        await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
        await asyncio.wait_for(stream.read(1), 2)


class Handshake:
    """First packets with whatever in their CRYPTO frames, and the server's side that takes them."""

    def __init__(self) -> None:
        self.connection_id = os.urandom(8)
        self.crypto = CryptoPair()
        self.crypto.setup_initial(cid=self.connection_id, is_client=True, version=1)
        self.number = 0
        self.server = RawKeyConnection(
            QuicIdentity.from_pair(KeyPair.generate()), [ALPN], original_destination_connection_id=self.connection_id
        )

    def send(self, *frames: tuple[int, bytes]) -> tuple[int, bool, str] | None:
        """Feed one packet of such pieces by offset; how the server ended the connection, if it did."""
        builder = QuicPacketBuilder(
            host_cid=b"attacker",
            peer_cid=self.connection_id,
            version=1,
            is_client=True,
            max_datagram_size=1200,
            packet_number=self.number,
        )
        builder.start_packet(QuicPacketType.INITIAL, self.crypto)
        for offset, data in frames:
            buf = builder.start_frame(QuicFrameType.CRYPTO, capacity=len(data) + 4)
            buf.push_uint_var(offset)
            buf.push_uint_var(len(data))
            buf.push_bytes(data)
        ((packet,), _) = builder.flush()
        self.number += 1
        self.server.receive_datagram(packet, ("127.0.0.1", 9), 0.0)
        return self.server.closing


def test_an_oversize_handshake_message_is_cut_off_at_16_kib() -> None:
    handshake = Handshake()
    assert handshake.send((0, b"\x01\xff\xff\xff" + bytes(996))) is None
    ended = [handshake.send((1000 * number, bytes(1000))) for number in range(1, 20)]
    assert ended[14] is None
    assert ended[16] is not None
    assert "too long" in ended[16][2]


@pytest.mark.parametrize("offset", [20_000, 500_000, 1 << 61])
def test_a_handshake_frame_far_behind_a_gap_is_refused(offset: int) -> None:
    ended = Handshake().send((offset, b"x"))
    assert ended is not None
    assert "too long" in ended[2]


def test_a_handshake_of_every_second_byte_ends_at_its_first_packet() -> None:
    ended = Handshake().send(*((offset, b"x") for offset in range(1, 400, 2)))
    assert ended is not None
    assert "gaps" in ended[2]


def test_a_hello_in_a_hundred_mixed_pieces_is_put_together() -> None:
    handshake = Handshake()
    hello = b"\x01\x00\x01\xf0" + bytes(496)
    pieces = [(start, hello[start : start + 5]) for start in range(0, len(hello), 5)]
    assert handshake.send(*pieces[1::2]) is None
    ended = handshake.send(*pieces[::2])
    assert ended is not None
    assert "gaps" not in ended[2]
