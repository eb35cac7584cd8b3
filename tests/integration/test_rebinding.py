"""The path changes in the middle of a transfer: a router forgets its table, and the other side sees us at another port
from then on; or it carries no large packets any more, and says so to nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.addresses import Address
from pypatcher.errors import PeerError
from pypatcher.transfer import fetch_from
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

MINUTE = 29_000_000


class RebindingRouter:
    """Hands datagrams on between one inside address and ``outside``, from a port of its own that can change."""

    def __init__(self, outside: Address) -> None:
        self.outside = outside
        self.client: Address | None = None
        self.carries = True
        self.largest_carried = 65535
        self.lengths: set[int] = set()
        """Of what was carried."""
        self.ports: list[asyncio.DatagramTransport] = []

    async def open(self) -> Address:
        loop = asyncio.get_running_loop()
        host = loopback()
        self.inside, _ = await loop.create_datagram_endpoint(lambda: _Side(self.from_inside), local_addr=(host, 0))
        await self.rebind()
        return self.inside.get_extra_info("sockname")[:2]

    async def rebind(self) -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(lambda: _Side(self.from_outside), local_addr=(loopback(), 0))
        for old in self.ports:
            old.close()
        self.ports = [transport]

    def from_inside(self, data: bytes, source: Address) -> None:
        self.client = source
        if self._carried(data):
            self.ports[0].sendto(data, self.outside)

    def from_outside(self, data: bytes, _source: Address) -> None:
        if self.client is not None and self._carried(data):
            self.inside.sendto(data, self.client)

    def _carried(self, data: bytes) -> bool:
        if not self.carries or len(data) > self.largest_carried:
            return False
        self.lengths.add(len(data))
        return True

    def close(self) -> None:
        for transport in (self.inside, *self.ports):
            transport.close()


class _Side(asyncio.DatagramProtocol):
    def __init__(self, received: object) -> None:
        self.datagram_received = received  # type: ignore[assignment]


@contextlib.asynccontextmanager
async def open_router(outside: Address) -> AsyncIterator[tuple[RebindingRouter, Address]]:
    router = RebindingRouter(outside)
    address = await router.open()
    try:
        yield router, address
    finally:
        router.close()


async def test_a_transfer_goes_on_when_the_fetching_side_gets_another_port(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, size=3_000_000)
    rebound = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with (
        open_server(local_release(info, tmp_path / "release"), minute=MINUTE) as server,
        open_endpoint() as client,
        open_router(server.address) as (router, address),
    ):

        def progress(done: int, total: int) -> None:
            if done > total // 4 and not rebound.is_set():
                rebound.set()
                tasks.append(loop.create_task(router.rebind()))

        tasks: list[asyncio.Task[None]] = []
        received = Kept(received=progress)
        async with asyncio.timeout(40):
            await fetch_from(
                client,
                address,
                received,
                node_id=server.endpoint.node_id,
                alpn=ALPN,
                owner=OWNER_KEY,
                expect=info,
                now=lambda: MINUTE * 60.0,
            )
        await asyncio.gather(*tasks)
        assert rebound.is_set()
    assert bytes(received) == body


async def test_a_transfer_goes_on_when_its_packets_are_too_large_now(tmp_path: Path) -> None:
    """A black hole: another route, a tunnel, and a firewall that drops the messages of ICMP which would tell."""
    info, body = make_release(tmp_path, size=3_000_000)
    async with (
        open_server(local_release(info, tmp_path / "release"), minute=MINUTE) as server,
        open_endpoint() as client,
        open_router(server.address) as (router, address),
    ):
        before: set[int] = set()

        def progress(done: int, total: int) -> None:
            if done > total // 4 and not before:
                before.update(router.lengths)
                router.lengths.clear()
                router.largest_carried = 1300

        received = Kept(received=progress)
        async with asyncio.timeout(40):
            await fetch_from(
                client,
                address,
                received,
                node_id=server.endpoint.node_id,
                alpn=ALPN,
                owner=OWNER_KEY,
                expect=info,
                now=lambda: MINUTE * 60.0,
            )
    assert bytes(received) == body
    assert max(before) > 1300 >= max(router.lengths) >= 1200


async def test_who_only_takes_shows_itself_after_a_router_was_off(tmp_path: Path) -> None:
    info, body = make_release(tmp_path, size=1_000_000)
    off = asyncio.Event()
    async with (
        open_server(local_release(info, tmp_path / "release"), minute=MINUTE) as server,
        open_endpoint() as client,
        open_router(server.address) as (router, address),
    ):

        def progress(done: int, total: int) -> None:
            if done > total // 4 and not off.is_set():
                router.carries = False
                off.set()

        async def power() -> None:
            await off.wait()
            await asyncio.sleep(1)  # whatever was under way is lost; the taker owes no answer to anything
            await router.rebind()
            router.carries = True

        received = Kept(received=progress)
        async with asyncio.timeout(25), asyncio.TaskGroup() as tasks:
            tasks.create_task(power())
            await fetch_from(
                client,
                address,
                received,
                node_id=server.endpoint.node_id,
                alpn=ALPN,
                owner=OWNER_KEY,
                expect=info,
                now=lambda: MINUTE * 60.0,
            )
    assert bytes(received) == body


async def test_a_peer_that_is_gone_is_given_up_before_the_connection_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pypatcher.transfer.taking._NUDGE_AFTER", 0.1)
    info, _ = make_release(tmp_path, size=3_000_000)
    async with (
        open_server(local_release(info, tmp_path / "release"), minute=MINUTE) as server,
        open_endpoint() as client,
        open_router(server.address) as (router, address),
    ):

        def progress(_done: int, _total: int) -> None:
            router.carries = False

        with pytest.raises(PeerError, match="does not answer any more"):
            async with asyncio.timeout(25):
                await fetch_from(
                    client,
                    address,
                    Kept(received=progress),
                    node_id=server.endpoint.node_id,
                    alpn=ALPN,
                    owner=OWNER_KEY,
                    expect=info,
                    now=lambda: MINUTE * 60.0,
                )
