"""Clients that cheat a server once they are connected: each loses its place, and honest transfers go on meanwhile.

design.md "Transport and transfer". Every test names one attack.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from pypatcher.budgets import UploadLimiter
from pypatcher.errors import PeerError
from pypatcher.transfer import StallRule, stall, wire
from tests.support.quic import forge
from tests.support.siege import MINUTE, Siege, fetch
from tests.support.transport import ALPN, OWNER_KEY, local_release, make_release, open_endpoint, open_server

SOON = StallRule(1000.0, 0.3)


async def test_a_client_with_a_wrong_alpn_is_refused(honest: Siege) -> None:
    async with open_endpoint() as client:
        with pytest.raises(PeerError, match="ALPN"):
            await client.connect(honest.address, node_id=None, alpn="h3")


async def test_a_replayed_request_gets_nothing_but_the_minute(honest: Siege) -> None:
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        for _ in range(2):
            stream = await connection.open_stream()
            await stream.write(wire.auth_value(OWNER_KEY, MINUTE - 60))
            assert await stream.read(100) == wire.encode_refusal(MINUTE)
        with pytest.raises(PeerError, match="refused"):
            await connection.accept_stream()


async def test_a_client_that_says_nothing_loses_its_place(honest: Siege, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stall, "_ANSWER_SECONDS", 1.0)
    async with open_endpoint() as client:
        silent = await client.connect(honest.address, node_id=None, alpn=ALPN)
        half = await client.connect(honest.address, node_id=None, alpn=ALPN)
        await (await half.open_stream()).write(bytes(63))
        async with asyncio.timeout(30):
            await silent.wait_closed()
            await half.wait_closed()


async def test_a_request_of_one_byte_breaks_the_protocol(honest: Siege) -> None:
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        stream = await connection.open_stream()
        await stream.write(b"x")
        await stream.finish()
        with pytest.raises(PeerError, match="closed the connection: protocol"):
            await connection.accept_stream()


async def test_a_slow_loris_that_drips_its_request_loses_its_place(
    honest: Siege, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stall, "_ANSWER_SECONDS", 1.0)
    request = wire.auth_value(OWNER_KEY, MINUTE)
    dripped = 0
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        stream = await connection.open_stream()
        with pytest.raises(PeerError):
            for byte in request[:-1]:
                await stream.write(bytes([byte]))
                dripped += 1
                await asyncio.sleep(0.1)
            await stream.read(1)
    assert 0 < dripped < len(request) - 1


async def test_a_client_that_takes_nothing_loses_its_place(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, 3_000_000)
    limiter = UploadLimiter(lan_uploads=1)
    async with (
        open_server(local_release(info, tmp_path / "release"), limiter=limiter, stall=SOON) as server,
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


async def test_stream_resets_over_and_over_cost_nobody_anything(honest: Siege) -> None:
    async with open_endpoint() as client:
        for _ in range(20):
            connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
            stream = await connection.open_stream()
            await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
            await stream.read(1)
            stream.reset(1)
            connection.close(1)


async def test_a_client_that_opens_streams_without_end_is_cut_off(honest: Siege) -> None:
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        with pytest.raises(PeerError):
            async with asyncio.timeout(5):
                while True:
                    stream = await connection.open_uni()
                    await stream.write(bytes(1000))
                    await stream.finish()
                    await stream.delivered()


async def test_frames_beyond_what_flow_control_allows_are_cut_off(honest: Siege) -> None:
    async with open_endpoint() as client:
        connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
        stream = await connection.open_stream()
        flow = connection._quic.streams.state.flow
        flow.streams[stream.id].sending.limit = flow.send_limit = 1 << 40
        with pytest.raises(PeerError, match="limit"):
            async with asyncio.timeout(5):
                while True:
                    await stream.write(bytes(100_000))


async def test_frames_of_noise_break_their_own_connection_alone(honest: Siege) -> None:
    noise = random.Random(11)
    async with open_endpoint() as client:
        for number in range(150):
            connection = await client.connect(honest.address, node_id=None, alpn=ALPN)
            payload = bytes((number % 0x32,)) + noise.randbytes(noise.choice((1, 10, 200)))
            packet = forge(connection._quic, payload, 1000)
            client.send_krpc(packet, honest.address)
            connection.close()
