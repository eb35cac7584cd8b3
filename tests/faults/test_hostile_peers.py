"""Peers that lie, stall, flood or break off: each is survived, and an honest transfer goes on meanwhile.

DESIGN "Transport and transfer". Every test names one attack. Memory and descriptors are looked at where an attack
aims at them. What a hostile program FILE can do is tested with the artifact.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aioquic import tls
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, QuicPacketType
from aioquic.quic.packet_builder import QuicPacketBuilder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pypatcher.artifact.patch import PatchInfo
from pypatcher.errors import ContentMismatchError, PeerBusyError, PeerError, SignatureMismatchError
from pypatcher.keys import KeyPair
from pypatcher.transport import (
    CloseCode,
    Connection,
    Endpoint,
    Served,
    StallRule,
    Stream,
    UploadLimiter,
    fetch_release,
    pace,
    wire,
)
from pypatcher.transport.identity import QuicIdentity, RawKeyConnection
from tests.support.transport import ALPN, OWNER_KEY, Server, loopback, make_release, open_endpoint, open_server

SIZE = 1_000_000
MINUTE = 29_000_000
SOON = StallRule(1000.0, 0.3)

Handler = Callable[[Connection], Awaitable[None]]


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what must become true soon."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def fetch(server: Server, client: Endpoint, **options: object) -> bytes:
    """An honest fetch."""
    connection = await client.connect(server.address, node_id=server.endpoint.node_id, alpn=ALPN)
    got = bytearray()
    settings = {"owner": OWNER_KEY, "expect": None, "write": got.extend, "now": lambda: MINUTE * 60.0}
    try:
        await fetch_release(connection, **{**settings, **options})
    finally:
        connection.close()
    return bytes(got)


@pytest.fixture
async def honest(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with a release; after the attack an honest peer still gets it, and nothing was left behind."""
    info, body = make_release(tmp_path, SIZE)
    async with open_server(Served(info, tmp_path / "release"), stall=SOON) as server:
        yield server
        async with open_endpoint() as client:
            assert await fetch(server, client) == body


@contextlib.asynccontextmanager
async def hostile_server(handler: Handler) -> AsyncIterator[Server]:
    async with open_server(None) as server:
        server.endpoint.serve(ALPN, handler)
        yield server


async def accept_request(connection: Connection) -> Stream:
    stream = await connection.accept_stream()
    await stream.read_exactly(wire.REQUEST_SIZE)
    return stream


async def expect_from(handler: Handler, error: type[Exception], match: str, **options: object) -> None:
    """Fetch from a server that behaves like ``handler``: it fails with ``error``, and nothing was left open."""
    async with hostile_server(handler) as server, open_endpoint() as client:
        with pytest.raises(error, match=match):
            await asyncio.wait_for(fetch(server, client, **options), 10)
        await until(lambda: not client.connections)


# Servers that cheat a client.


async def test_a_server_that_falls_silent_in_mid_transfer_is_given_up(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE) + body[:10_000])
        await connection.wait_closed()

    await expect_from(handler, PeerError, "stalled", stall=SOON)


async def test_a_server_that_drips_is_given_up(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)
    dripped = 0

    async def handler(connection: Connection) -> None:
        nonlocal dripped
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE))
        for byte in body:
            await stream.write(bytes([byte]))
            dripped += 1
            await asyncio.sleep(0.02)

    await expect_from(handler, PeerError, "stalled", stall=SOON)
    assert dripped < 100


async def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_ANSWER_SECONDS", 0.2)
    await expect_from(Connection.wait_closed, PeerError, "silent")


@pytest.mark.parametrize("off", [-1, 1, 1 << 40])
async def test_a_server_that_announces_another_length_is_refused(tmp_path: Path, off: int) -> None:
    info, body = make_release(tmp_path, SIZE)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE + off) + body)
        await connection.wait_closed()

    await expect_from(handler, ContentMismatchError, "of a file of", write=pytest.fail)


async def test_a_server_whose_lengths_contradict_each_other_is_refused(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        answer = bytearray(wire.encode_acceptance(info, SIZE) + body)
        answer[8] ^= 1
        await stream.write(bytes(answer))
        await connection.wait_closed()

    await expect_from(handler, PeerError, "makes no sense", write=pytest.fail)


async def test_a_server_that_ends_early_is_refused(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE) + body[:-1])
        await stream.finish()
        await connection.wait_closed()

    await expect_from(handler, PeerError, "early")


async def test_a_server_that_does_not_end_is_refused_and_no_byte_too_many_is_written(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)
    written = bytearray()

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE) + body)
        while True:
            await stream.write(bytes(100_000))

    await expect_from(handler, ContentMismatchError, "more than", write=written.extend)
    assert bytes(written) == body


async def test_a_server_with_a_forged_release_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)
    forged = PatchInfo(replace(info.version, major=999), info.size, info.hash, info.signature)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(forged, SIZE) + body)
        await connection.wait_closed()

    await expect_from(handler, SignatureMismatchError, "999", write=pytest.fail)


async def test_a_server_that_sends_noise_is_refused() -> None:
    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(b"\x01" + random.Random(7).randbytes(1000))
        await connection.wait_closed()

    await expect_from(handler, PeerError, "makes no sense", write=pytest.fail)


async def test_a_server_that_answers_in_another_language_is_refused() -> None:
    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await connection.wait_closed()

    await expect_from(handler, PeerError, "something else")


async def test_a_server_that_resets_in_mid_transfer_is_an_error_at_once(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE) + body[: SIZE // 2])
        stream.reset(99)
        await connection.wait_closed()

    await expect_from(handler, PeerError, "gave the stream up")


async def test_a_server_that_sends_faster_than_the_disk_fills_no_memory(tmp_path: Path) -> None:
    size = 40_000_000
    info, _ = make_release(tmp_path, size)
    before = resident()

    async with open_server(Served(info, tmp_path / "release")) as server, open_endpoint() as client:
        connection = await client.connect(server.address, node_id=None, alpn=ALPN)
        stream = await connection.open_stream()
        stream.expect_much(1 << 21)
        await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
        await asyncio.sleep(0.5)
        assert 1 << 20 < sum(map(len, stream._chunks)) <= 1 << 21
        assert resident() - before < 20 << 20
        connection.close()


# Clients that cheat a server.


async def test_a_client_without_a_key_ends_its_handshake(honest: Server) -> None:
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
async def test_a_client_with_a_key_of_another_type_ends_its_handshake(honest: Server, shown: bytes) -> None:
    async with open_endpoint() as client:
        client._identity = replace(client._identity, certificate=_Certificate(shown))
        await expect_no_service(honest, client)


async def test_a_client_that_shows_somebody_elses_key_ends_its_handshake(honest: Server) -> None:
    async with open_endpoint() as client:
        client._identity = QuicIdentity(
            client.node_id, Ed25519PrivateKey.generate(), QuicIdentity.from_pair(KeyPair.generate()).certificate
        )
        await expect_no_service(honest, client)


async def test_a_client_of_the_certificate_world_is_refused(honest: Server, monkeypatch: pytest.MonkeyPatch) -> None:
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


async def expect_no_service(server: Server, client: Endpoint) -> None:
    """The client may believe for a moment that it is connected; it is served nothing and told to go."""
    with pytest.raises(PeerError):
        connection = await client.connect(server.address, node_id=None, alpn=ALPN, timeout=2)
        stream = await connection.open_stream()
        await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
        await asyncio.wait_for(stream.read(1), 2)
    assert not server.outcomes


async def test_a_client_of_another_protocol_is_refused(honest: Server) -> None:
    async with open_endpoint() as client:
        with pytest.raises(PeerError, match="ALPN"):
            await client.connect(honest.address, node_id=None, alpn="h3")


async def test_a_client_with_a_replayed_request_gets_nothing_but_the_minute(honest: Server) -> None:
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        for _ in range(2):
            stream = await connection.open_stream()
            await stream.write(wire.auth_value(OWNER_KEY, MINUTE - 60))
            assert await stream.read(100) == wire.encode_refusal(MINUTE)
        with pytest.raises(PeerError, match="refused"):
            await connection.accept_stream()


async def test_a_client_that_says_nothing_loses_its_place(honest: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_ANSWER_SECONDS", 0.2)
    async with open_endpoint() as client:
        silent = await client.connect(honest.address, node_id=None, alpn=ALPN)
        half = await client.connect(honest.address, node_id=None, alpn=ALPN)
        await (await half.open_stream()).write(bytes(63))
        async with asyncio.timeout(2):
            await silent.wait_closed()
            await half.wait_closed()


async def test_a_client_that_takes_nothing_loses_its_place(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, 3_000_000)
    limiter = UploadLimiter(lan_uploads=1)
    async with (
        open_server(Served(info, tmp_path / "release"), limiter=limiter, stall=SOON) as server,
        open_endpoint() as lazy,
        open_endpoint() as client,
    ):
        connection = await lazy.connect(server.address, node_id=None, alpn=ALPN)
        stream = await connection.open_stream()
        await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
        with pytest.raises(PeerError, match="stalled"):
            async with asyncio.timeout(5):
                await connection.accept_stream()
        assert await fetch(server, client) == body


async def test_a_client_that_resets_over_and_over_costs_nobody_anything(honest: Server) -> None:
    async with open_endpoint() as client:
        for _ in range(20):
            connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
            stream = await connection.open_stream()
            await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
            await stream.read(1)
            stream.reset(1)
            connection.close(1)


async def test_a_client_that_opens_streams_without_end_is_cut_off(honest: Server) -> None:
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        with pytest.raises(PeerError):
            async with asyncio.timeout(5):
                while True:
                    stream = await connection.open_uni()
                    await stream.write(bytes(1000))
                    await stream.finish()
                    await stream.delivered()


async def test_a_client_that_ignores_flow_control_is_cut_off(honest: Server) -> None:
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        stream = await connection.open_stream()
        connection._quic._streams[stream.id].max_stream_data_remote = 1 << 40
        connection._quic._remote_max_data = 1 << 40
        with pytest.raises(PeerError, match="limit"):
            async with asyncio.timeout(5):
                while True:
                    await stream.write(bytes(100_000))


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

    def send(self, offset: int, data: bytes) -> tuple[int, bool, str] | None:
        """Feed one packet; how the server ended the connection, if it did."""
        builder = QuicPacketBuilder(
            host_cid=b"attacker",
            peer_cid=self.connection_id,
            version=1,
            is_client=True,
            max_datagram_size=1200,
            packet_number=self.number,
        )
        builder.start_packet(QuicPacketType.INITIAL, self.crypto)
        buf = builder.start_frame(QuicFrameType.CRYPTO, capacity=len(data) + 12)
        buf.push_uint_var(offset)
        buf.push_uint16(len(data) | 0x4000)
        buf.push_bytes(data)
        ((packet,), _) = builder.flush()
        self.number += 1
        self.server.receive_datagram(packet, ("127.0.0.1", 9), 0.0)
        return self.server.closing


def test_a_handshake_message_without_end_is_cut_off_at_16_kib() -> None:
    handshake = Handshake()
    assert handshake.send(0, b"\x01\xff\xff\xff" + bytes(996)) is None
    ended = [handshake.send(1000 * number, bytes(1000)) for number in range(1, 20)]
    assert ended[14] is None
    assert ended[16] is not None
    assert "too long" in ended[16][2]


@pytest.mark.parametrize("offset", [20_000, 500_000, 1 << 61])
def test_a_handshake_frame_far_behind_a_gap_is_refused(offset: int) -> None:
    ended = Handshake().send(offset, b"x")
    assert ended is not None
    assert "too long" in ended[2]


async def test_frames_of_noise_under_valid_keys_break_their_own_connection_alone(honest: Server) -> None:
    noise = random.Random(11)
    async with open_endpoint() as client:
        for number in range(150):
            connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
            quic = connection._quic
            builder = QuicPacketBuilder(
                host_cid=quic.host_cid,
                peer_cid=quic._peer_cid.cid,
                version=1,
                is_client=True,
                max_datagram_size=1200,
                packet_number=quic._packet_number,
            )
            builder.start_packet(QuicPacketType.ONE_RTT, quic._cryptos[tls.Epoch.ONE_RTT])
            buf = builder.start_frame(number % 0x32, capacity=2)
            buf.push_bytes(noise.randbytes(noise.choice((1, 10, 200))))
            ((packet,), _) = builder.flush()
            client.send_krpc(packet, honest.address)
            connection.close()


# Floods.


async def test_garbage_of_every_shape_leaves_no_trace(honest: Server) -> None:
    noise = random.Random(1)
    genuine = first_packet()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
        attacker.bind((loopback(), 0))
        for number in range(3000):
            packet = bytearray(noise.randbytes(noise.choice((0, 1, 5, 7, 21, 100, 1199, 1200, 1400))))
            if number % 3 == 0:
                packet = bytearray(genuine)
                for _ in range(noise.randrange(1, 6)):
                    packet[noise.randrange(len(packet))] = noise.randrange(256)
            elif packet and number % 3 == 1:
                packet[0] |= 0xC0
                packet[1:5] = noise.choice((b"\0\0\0\1", b"\0\0\0\0", noise.randbytes(4)))
            attacker.sendto(bytes(packet), honest.address)
            if number % 50 == 0:
                await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert honest.endpoint.connections <= 4


def first_packet(destination: tuple[str, int] = ("127.0.0.1", 9)) -> bytes:
    """The first datagram of a genuine client."""
    quic = RawKeyConnection(QuicIdentity.from_pair(KeyPair.generate()), [ALPN])
    quic.connect(destination, 0.0)
    ((data, _),) = quic.datagrams_to_send(0.0)
    return data


async def test_version_negotiation_is_answered_once_and_never_to_itself(honest: Server) -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as stranger:
        stranger.bind((loopback(), 0))
        unknown = bytes([0xC0]) + b"\x0a\x0a\x0a\x0a" + b"\x08" + b"A" * 8 + b"\x04" + b"B" * 4
        stranger.sendto(unknown + bytes(1200), honest.address)
        async with asyncio.timeout(2):
            answer = await loop.sock_recv(stranger, 2000)
        assert answer[1:5] == bytes(4)
        assert answer.endswith(b"\x00\x00\x00\x01")
        assert len(answer) < 50
        stranger.sendto(answer + bytes(1200), honest.address)
        stranger.sendto(unknown, honest.address)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await loop.sock_recv(stranger, 2000)


async def test_handshakes_that_are_never_finished_fill_no_place(honest: Server) -> None:
    before, open_files = resident(), descriptors()
    packets = [first_packet() for _ in range(400)]
    with contextlib.ExitStack() as stack:
        attackers = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(40)]
        for attacker in attackers:
            attacker.bind((loopback(), 0))
        for number, packet in enumerate(packets):
            attackers[number % 40].sendto(packet, honest.address)
            if number % 20 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.05)
        assert honest.endpoint.connections <= 8
        # Who echoes the token gets in at once, while the flood stands.
        async with open_endpoint() as client:
            assert len(await fetch(honest, client)) == SIZE
    assert resident() - before < 20 << 20
    await until(lambda: descriptors() == open_files)


async def test_a_thousand_connections_of_one_peer_leave_room_for_others(honest: Server) -> None:
    before, open_files = resident(), descriptors()
    async with open_endpoint() as crowd, open_endpoint() as client:
        dials = [
            asyncio.ensure_future(crowd.connect(honest.address, node_id=None, alpn=ALPN, timeout=3))
            for _ in range(1000)
        ]
        await asyncio.sleep(0.5)
        assert honest.endpoint.connections <= 8
        assert len(await asyncio.wait_for(fetch(honest, client), 20)) == SIZE
        results = await asyncio.gather(*dials, return_exceptions=True)
        assert sum(isinstance(result, Connection) for result in results) <= 8
        del results, dials
    # The attacker's thousand connections are in this process too.
    assert resident() - before < 400 << 20
    await until(lambda: descriptors() == open_files)


async def test_a_server_is_no_amplifier(honest: Server) -> None:
    packets = [first_packet() for _ in range(30)]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as victim:
        victim.bind((loopback(), 0))
        for packet in packets:
            victim.sendto(packet, honest.address)
        await asyncio.sleep(1.5)
        received = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                received += len(victim.recv(2000))
        assert received <= 3 * sum(map(len, packets))


async def test_a_busy_answer_cannot_be_forged_by_a_third_party(honest: Server) -> None:
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((loopback(), 0))
            noise = random.Random(3)
            for connection_id in list(client._routes):
                for _ in range(50):
                    stranger.sendto(b"\x40" + connection_id + noise.randbytes(60), client.addresses[0])
        await asyncio.sleep(0.05)
        assert not connection.is_closed
        connection.close(CloseCode.DONE)


# Networks that are no better than peers.


def make_lossy(endpoint: Endpoint, share: float, seed: int) -> None:
    """Lose a share of the datagrams that the endpoint sends, and swap some neighbours."""
    noise = random.Random(seed)
    (udp,) = endpoint._sockets.values()
    send = udp.send_all

    def send_some(datagrams: list[tuple[bytes, tuple[str, int]]]) -> None:
        kept = [datagram for datagram in datagrams if noise.random() >= share]
        if len(kept) > 2 and noise.random() < 0.3:
            kept[0], kept[-1] = kept[-1], kept[0]
        send(kept)

    udp.send_all = send_some  # type: ignore[method-assign]


@pytest.mark.parametrize("seed", range(4))
async def test_a_network_that_loses_and_swaps_packets_only_takes_longer(tmp_path: Path, seed: int) -> None:
    info, body = make_release(tmp_path, 300_000)
    async with open_server(Served(info, tmp_path / "release")) as server, open_endpoint() as client:
        make_lossy(server.endpoint, 0.05, seed)
        make_lossy(client, 0.05, seed + 100)
        assert await fetch(server, client) == body


async def test_a_farewell_that_was_lost_is_said_again_when_the_peer_goes_on_talking() -> None:
    async with open_endpoint() as server, open_endpoint() as client:

        async def handler(connection: Connection) -> None:
            await connection.accept_stream()
            (udp,) = server._sockets.values()
            send = udp.send_all
            dropped = []
            udp.send_all = dropped.append  # type: ignore[method-assign, assignment]
            connection.close(CloseCode.BUSY)
            server._flush()
            assert dropped
            udp.send_all = send  # type: ignore[method-assign]

        server.serve(ALPN, handler)
        connection = await client.connect(server.addresses[0], node_id=None, alpn=ALPN)
        stream = await connection.open_stream()
        with pytest.raises(PeerBusyError):
            async with asyncio.timeout(5):
                await stream.write(bytes(1000))
                await stream.read(1)
