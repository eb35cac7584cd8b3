"""Servers that cheat a client: each is given up or refused, no byte too many is written, nothing is left open.

design.md "Transport and transfer". Every test names one attack. What a hostile program FILE can do is tested with the
artifact, what a node then does in ``test_refusals``.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pypatcher.artifact.patch import PatchInfo
from pypatcher.errors import ContentMismatchError, PeerError, SignatureMismatchError
from pypatcher.transfer import StallRule, stall, wire
from pypatcher.transport import Connection, Stream
from tests.support.siege import MINUTE, SIZE, fetch, resident, until
from tests.support.transport import (
    ALPN,
    OWNER_KEY,
    Kept,
    Server,
    local_release,
    make_release,
    open_endpoint,
    open_server,
)

SOON = StallRule(1000.0, 0.3)

Handler = Callable[[Connection], Awaitable[None]]


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


async def test_a_server_that_falls_silent_in_mid_transfer_is_given_up(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE) + body[:10_000])
        await connection.wait_closed()

    await expect_from(handler, PeerError, "stalled", stall=SOON)


async def test_a_slow_loris_that_drips_a_release_is_given_up(tmp_path: Path) -> None:
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
    monkeypatch.setattr(stall, "_ANSWER_SECONDS", 0.2)
    await expect_from(Connection.wait_closed, PeerError, "silent")


@pytest.mark.parametrize("off", [-1, 1, 1 << 40])
async def test_a_server_that_announces_another_length_is_refused(tmp_path: Path, off: int) -> None:
    info, body = make_release(tmp_path, SIZE)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE + off) + body)
        await connection.wait_closed()

    await expect_from(handler, ContentMismatchError, "of a file of", sink=Kept(pytest.fail))


async def test_a_server_whose_lengths_contradict_each_other_is_refused(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        answer = bytearray(wire.encode_acceptance(info, SIZE) + body)
        answer[8] ^= 1
        await stream.write(bytes(answer))
        await connection.wait_closed()

    await expect_from(handler, PeerError, "makes no sense", sink=Kept(pytest.fail))


async def test_a_server_that_ends_early_is_refused(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE) + body[:-1])
        await stream.finish()
        await connection.wait_closed()

    await expect_from(handler, PeerError, "early")


async def test_endless_data_is_refused_and_no_byte_too_many_is_written(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)
    written = Kept()

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(info, SIZE) + body)
        while True:
            await stream.write(bytes(100_000))

    await expect_from(handler, ContentMismatchError, "more than", sink=written)
    assert bytes(written) == body


async def test_a_forged_release_is_refused_before_a_byte_is_written(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, SIZE)
    forged = PatchInfo(replace(info.version, major=999), info.size, info.hash, info.signature)

    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(wire.encode_acceptance(forged, SIZE) + body)
        await connection.wait_closed()

    await expect_from(handler, SignatureMismatchError, "999", sink=Kept(pytest.fail))


async def test_a_server_that_sends_noise_is_refused() -> None:
    async def handler(connection: Connection) -> None:
        stream = await accept_request(connection)
        await stream.write(b"\x01" + random.Random(7).randbytes(1000))
        await connection.wait_closed()

    await expect_from(handler, PeerError, "makes no sense", sink=Kept(pytest.fail))


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

    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        connection = await client.connect(server.address, node_id=None, alpn=ALPN)
        stream = await connection.open_stream()
        stream.expect_much(1 << 21)
        await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
        await until(lambda: sum(map(len, stream._chunks)) > 1 << 20)
        await asyncio.sleep(0.5)
        assert sum(map(len, stream._chunks)) <= 1 << 21
        assert resident() - before < 20 << 20
        connection.close()
