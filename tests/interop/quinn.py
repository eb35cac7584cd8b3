"""A real endpoint of quinn with raw public keys, both ways, on good and on bad paths: ``make quinn`` runs it.

Not among what is collected by itself: quinn needs a newer cargo than Debian 12 has. It changes keys by itself, too,
once in its first thousand packets.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.artifact.patch import Patch
from pypatcher.errors import PeerError
from pypatcher.keys import KeyPair
from pypatcher.transfer import fetch_release, wire
from pypatcher.transport import Connection
from tests.support.rough_path import Rough, rough_path
from tests.support.transport import (
    ALPN,
    OWNER_KEY,
    Kept,
    local_release,
    loopback,
    make_release,
    open_endpoint,
    open_server,
)

PEER = Path(__file__).parents[2] / ".cache" / "quinn-peer" / "release" / "quinn-peer"
SEED = bytes(range(32, 64))
THEIR_KEY = KeyPair.from_seed(SEED).public
SIZE = 1_500_000
MIDST = 300
PATHS = {
    "smooth": Rough(),
    "lossy": Rough(lost=0.05),
    "doubling": Rough(doubled=0.2),
    "reordering": Rough(late=0.1),
    "all of it": Rough(lost=0.03, doubled=0.1, late=0.05),
}
paths = pytest.mark.parametrize("path", PATHS)


@contextlib.asynccontextmanager
async def quinn_server(
    answer: Path, *options: str, alpn: str = ALPN
) -> AsyncIterator[tuple[tuple[str, int], asyncio.StreamReader]]:
    """Its address, and what it prints: the key of each that connects."""
    host = loopback()
    process = await asyncio.create_subprocess_exec(
        PEER, "serve", host, alpn, SEED.hex(), answer, *options,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    assert process.stdin
    try:
        yield (host, int(await process.stdout.readline())), process.stdout
    finally:
        process.stdin.close()
        await process.wait()


async def quinn_fetches(there: tuple[str, int], key: bytes, request: bytes, *options: str) -> str:
    """The size of the answer and its SHA-256, or what quinn says of its failure."""
    address = f"{there[0]}:{there[1]}"
    process = await asyncio.create_subprocess_exec(
        PEER, "fetch", address, ALPN, SEED.hex(), key.hex(), request.hex(), *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, failed = await process.communicate()
    return (said or failed).decode().strip()


@paths
@pytest.mark.parametrize("also", ["", "update", "rebind", "chacha20", "we update", "nat rebinds"])
async def test_quinn_fetches_a_release_from_us(tmp_path: Path, path: str, also: str) -> None:
    info, body = make_release(tmp_path, SIZE)
    patch = Patch(info, body).to_postcard()
    answer = b"\x01" + len(patch).to_bytes(8, "big") + patch
    seen: list[Connection] = []
    async with (
        open_server(local_release(info, tmp_path / "release")) as server,
        rough_path(server.address, PATHS[path]) as way,
    ):

        async def handle(connection: Connection) -> None:
            seen.append(connection)
            await server.handle(connection)

        server.endpoint.serve(ALPN, handle)
        updated: list[bool] = []
        if also == "we update":
            way.at(MIDST, lambda: updated.append(_update_keys(seen[0])))
        if also == "nat rebinds":
            way.at(MIDST, way.rebind)
        request = wire.auth_value(OWNER_KEY, server.minute)
        got = await quinn_fetches(way.address, server.endpoint.node_id, request, also)
        assert got == f"{len(answer)} {hashlib.sha256(answer).hexdigest()}"
        assert [connection.peer_id for connection in seen] == [THEIR_KEY]
        assert len(updated) == (also == "we update")
        _was_rough(PATHS[path], way.counts)


@paths
@pytest.mark.parametrize("also", ["", "update", "retry", "chacha20", "we update", "nat rebinds"])
async def test_we_fetch_a_release_from_quinn(tmp_path: Path, path: str, also: str) -> None:
    info, body = make_release(tmp_path, SIZE)
    patch = Patch(info, body).to_postcard()
    (tmp_path / "answer").write_bytes(b"\x01" + len(patch).to_bytes(8, "big") + patch)
    async with (
        quinn_server(tmp_path / "answer", also) as (address, said),
        rough_path(address, PATHS[path]) as way,
        open_endpoint() as ours,
    ):
        connection = await ours.connect(way.address, node_id=THEIR_KEY, alpn=ALPN)
        assert await said.readline() == ours.node_id.hex().encode() + b"\n"
        updated: list[bool] = []
        if also == "we update":
            way.at(MIDST, lambda: updated.append(_update_keys(connection)))
        if also == "nat rebinds":
            way.at(MIDST, way.rebind)
        got = Kept()
        assert (await fetch_release(connection, got, owner=OWNER_KEY, expect=info)).info == info
        assert bytes(got) == body
        assert len(updated) == (also == "we update")
        connection.close()
        _was_rough(PATHS[path], way.counts)


def _update_keys(connection: Connection) -> bool:
    """Not while quinn is at it."""
    assert connection._quic.established is not None
    return connection._quic.established.update_keys()


def _was_rough(rough: Rough, counts: dict[str, int]) -> None:
    for what in ("lost", "doubled", "late"):
        assert bool(counts[what]) == bool(getattr(rough, what)), counts


async def test_another_key_or_protocol_is_refused_both_ways(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path)
    other = KeyPair.generate().public
    (tmp_path / "answer").write_bytes(b"\x00")
    async with (
        open_server(local_release(info, tmp_path / "release"), alpn="other") as server,
        quinn_server(tmp_path / "answer") as (address, _said),
    ):
        assert "other" not in await quinn_fetches(server.address, server.endpoint.node_id, bytes(64))
        with pytest.raises(PeerError):
            await server.endpoint.connect(address, node_id=other, alpn=ALPN)
        with pytest.raises(PeerError):
            await server.endpoint.connect(address, node_id=THEIR_KEY, alpn="other")
        server.endpoint.serve(ALPN, server.handle)
        assert "somebody else" in await quinn_fetches(server.address, other, bytes(64))
