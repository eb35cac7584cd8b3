"""Networks that are no better than peers: lost and swapped packets cost time and nothing else."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from pypatcher.errors import PeerBusyError
from pypatcher.established import Train, apart
from pypatcher.transport import CloseCode, Connection, Endpoint
from tests.support.siege import fetch
from tests.support.transport import ALPN, local_release, make_release, open_endpoint, open_server


def make_lossy(endpoint: Endpoint, share: float, seed: int) -> None:
    """Lose a share of the datagrams that the endpoint sends, and swap some neighbours."""
    noise = random.Random(seed)
    (udp,) = endpoint._sockets.values()
    send = udp.send_all

    def send_some(trains: list[Train], *, source: bytes = b"") -> None:
        kept = [(data, len(data), address) for data, address in apart(trains) if noise.random() >= share]
        if len(kept) > 2 and noise.random() < 0.3:
            kept[0], kept[-1] = kept[-1], kept[0]
        send(kept, source=source)

    udp.send_all = send_some  # type: ignore[method-assign]


@pytest.mark.parametrize("seed", range(4))
async def test_a_network_that_loses_and_swaps_packets_only_takes_longer(tmp_path: Path, seed: int) -> None:
    info, body = make_release(tmp_path, 300_000)
    async with open_server(local_release(info, tmp_path / "release")) as server, open_endpoint() as client:
        make_lossy(server.endpoint, 0.05, seed)
        make_lossy(client, 0.05, seed + 100)
        assert await fetch(server, client) == body


async def test_a_lost_farewell_is_said_again_to_who_goes_on_talking() -> None:
    async with open_endpoint() as server, open_endpoint() as client:

        async def handler(connection: Connection) -> None:
            await connection.accept_stream()
            (udp,) = server._sockets.values()
            send = udp.send_all
            dropped = []
            udp.send_all = lambda datagrams, source=b"": dropped.append(datagrams)  # type: ignore[method-assign]
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
