"""A real iroh endpoint as client and as server of the v0 exchange: design.md "Transport and transfer"."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import iroh
import pytest

from pypatcher.artifact.patch import Patch, PatchInfo
from pypatcher.errors import PeerError
from pypatcher.transfer import fetch_release, wire
from pypatcher.transport import Connection
from tests.support.rough_path import Rough, rough_path
from tests.support.transport import (
    ALPN,
    OWNER_KEY,
    RUST_ALPN,
    Kept,
    local_release,
    loopback,
    make_release,
    open_endpoint,
    open_server,
)

ROUGH = {
    "lossy": Rough(lost=0.05),
    "doubling": Rough(doubled=0.2),
    "reordering": Rough(late=0.1),
    "all of it": Rough(lost=0.03, doubled=0.1, late=0.05),
}
MIDST = 60


class _Minimal(iroh.Preset):
    def apply(self, builder: iroh.EndpointBuilder) -> None:
        builder.apply_minimal()


@contextlib.asynccontextmanager
async def iroh_endpoint(*alpns: str) -> AsyncIterator[iroh.Endpoint]:
    endpoint = await iroh.Endpoint.bind(
        iroh.EndpointOptions(
            preset=_Minimal(),
            bind_addr=f"{loopback()}:0",
            alpns=[alpn.encode() for alpn in alpns],
            relay_mode=iroh.RelayMode.disabled(),
        )
    )
    try:
        yield endpoint
    finally:
        await endpoint.close()


def address_of(endpoint: iroh.Endpoint) -> tuple[str, int]:
    host, _, port = endpoint.bound_sockets()[0].rpartition(":")
    return host, int(port)


def iroh_address(node_id: bytes, address: tuple[str, int]) -> iroh.EndpointAddr:
    return iroh.EndpointAddr(iroh.EndpointId.from_bytes(node_id), None, [f"{address[0]}:{address[1]}"])


async def accept(endpoint: iroh.Endpoint) -> iroh.Connection:
    incoming = await endpoint.accept_next()
    return await (await incoming.accept()).connect()


@pytest.mark.parametrize("alpn", [ALPN, RUST_ALPN])
async def test_iroh_fetches_a_release_from_us(tmp_path: Path, alpn: str) -> None:
    info, body = make_release(tmp_path, 300_000)
    async with (
        open_server(local_release(info, tmp_path / "release"), alpn=alpn) as server,
        iroh_endpoint(alpn) as theirs,
    ):
        connection = await theirs.connect(iroh_address(server.endpoint.node_id, server.address), alpn.encode())
        assert connection.remote_id().to_bytes() == server.endpoint.node_id
        streams = await connection.open_bi()
        await streams.send().write_all(wire.auth_value(OWNER_KEY, server.minute))
        assert await streams.recv().read_exact(1) == b"\x01"
        length = int.from_bytes(await streams.recv().read_exact(8), "big")
        patch, rest = Patch.from_postcard(await streams.recv().read_to_end(1 << 20))
        assert (patch.info, patch.data, rest) == (info, body, b"")
        assert length == len(patch.to_postcard())
        connection.close(0, b"done")


async def test_iroh_of_another_minute_is_told_ours_in_our_namespace_only(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path)
    for alpn, answer in (
        (ALPN, b"\x00" + (29_000_000).to_bytes(8, "little")),
        (RUST_ALPN, b"\x00"),
    ):
        async with (
            open_server(local_release(info, tmp_path / "release"), alpn=alpn) as server,
            iroh_endpoint(alpn) as theirs,
        ):
            connection = await theirs.connect(iroh_address(server.endpoint.node_id, server.address), alpn.encode())
            streams = await connection.open_bi()
            await streams.send().write_all(wire.auth_value(OWNER_KEY, 5))
            assert await streams.recv().read_to_end(100) == answer


@pytest.mark.parametrize("path", ROUGH)
async def test_iroh_fetches_a_release_from_us_on_a_bad_path(tmp_path: Path, path: str) -> None:
    """We change keys in its midst."""
    info, body = make_release(tmp_path, 300_000)
    async with (
        open_server(local_release(info, tmp_path / "release")) as server,
        rough_path(server.address, ROUGH[path]) as way,
        iroh_endpoint(ALPN) as theirs,
    ):

        async def handle(connection: Connection) -> None:
            way.at(MIDST, connection._quic.request_key_update)
            await server.handle(connection)

        server.endpoint.serve(ALPN, handle)
        connection = await theirs.connect(iroh_address(server.endpoint.node_id, way.address), ALPN.encode())
        streams = await connection.open_bi()
        await streams.send().write_all(wire.auth_value(OWNER_KEY, server.minute))
        answer = await streams.recv().read_to_end(1 << 20)
        assert Patch.from_postcard(answer[9:])[0].data == body
        assert way.counts["to clients"] > MIDST
        connection.close(0, b"done")


async def _give(theirs: iroh.Endpoint, info: PatchInfo, body: bytes, seen: list[bytes]) -> None:
    connection = await accept(theirs)
    seen.append(connection.remote_id().to_bytes())
    streams = await connection.accept_bi()
    request = await streams.recv().read_exact(64)
    assert wire.check_auth(request, OWNER_KEY, int(time.time() // 60))
    patch = Patch(info, body).to_postcard()
    await streams.send().write_all(b"\x01" + len(patch).to_bytes(8, "big") + patch)
    await streams.send().finish()
    await connection.closed()


@pytest.mark.parametrize("path", ROUGH)
async def test_we_fetch_a_release_from_iroh_on_a_bad_path(tmp_path: Path, path: str) -> None:
    """We change keys in its midst."""
    info, body = make_release(tmp_path, 300_000)
    async with (
        iroh_endpoint(ALPN) as theirs,
        rough_path(address_of(theirs), ROUGH[path]) as way,
        open_endpoint() as ours,
    ):
        task = asyncio.ensure_future(_give(theirs, info, body, []))
        connection = await ours.connect(way.address, node_id=theirs.id().to_bytes(), alpn=ALPN)
        way.at(MIDST, connection._quic.request_key_update)
        got = Kept()
        assert (await fetch_release(connection, got, owner=OWNER_KEY, expect=info)).info == info
        assert bytes(got) == body
        assert way.counts["to clients"] > MIDST
        connection.close()
        await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("alpn", [ALPN, RUST_ALPN])
async def test_we_fetch_a_release_from_iroh(tmp_path: Path, alpn: str) -> None:
    info, body = make_release(tmp_path, 300_000)
    async with iroh_endpoint(alpn) as theirs, open_endpoint() as ours:
        seen: list[bytes] = []
        task = asyncio.ensure_future(_give(theirs, info, body, seen))
        node_id = theirs.id().to_bytes()
        connection = await ours.connect(address_of(theirs), node_id=node_id, alpn=alpn)
        assert connection.peer_id == node_id
        got = Kept()
        assert (await fetch_release(connection, got, owner=OWNER_KEY, expect=info)).info == info
        connection.close()
        await asyncio.wait_for(task, 10)
        assert (bytes(got), seen) == (body, [ours.node_id])


async def test_iroh_is_refused_by_protocol_and_another_key_by_us(tmp_path: Path) -> None:
    info, _ = make_release(tmp_path)
    async with open_server(local_release(info, tmp_path / "release")) as server, iroh_endpoint("other") as theirs:
        with pytest.raises(iroh.IrohError):
            await theirs.connect(iroh_address(server.endpoint.node_id, server.address), b"other")
        task = asyncio.ensure_future(accept(theirs))
        with pytest.raises(PeerError):
            await server.endpoint.connect(address_of(theirs), node_id=server.endpoint.node_id, alpn="other")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
