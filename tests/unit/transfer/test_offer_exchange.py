"""A node meets those whom its ways lead to; who takes its release slowly keeps it from nobody else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace

from pypatcher.addresses import Address
from pypatcher.budgets import UploadLimiter
from pypatcher.discovery.sources import Found
from pypatcher.nat.ways import EveryWay
from pypatcher.transfer import fetch_release, receive_offer, serve_release, wire
from pypatcher.transfer.gate import NOBODY
from pypatcher.transfer.offer_exchange import OfferExchange
from pypatcher.transport import Connection, Endpoint
from tests.support.siege import MINUTE, until
from tests.support.transport import OWNER_KEY, Kept, OneRelease, local_release, make_release, open_endpoint

OFFERS = "/pypatcher/x86_64/key/offer/v0"
SIZE = 3_000_000


class OpenWays(EveryWay):
    """Ways that open when a test says so."""

    def __init__(self) -> None:
        super().__init__(stranger_jitter=0.0)
        self.open: asyncio.Queue[Address] = asyncio.Queue()

    async def next_open(self) -> Address:
        return await self.open.get()


class Deaf:
    """Hears of whom was met."""

    def hear(self, found: Found) -> None: ...


class Holder:
    """A node that meets others and gives them its release; how many uploads and meetings there were at once."""

    def __init__(self, endpoint: Endpoint, folder: Path, limiter: UploadLimiter) -> None:
        self.info, self.body = make_release(folder, SIZE)
        self.served = local_release(self.info, folder / "release")
        self.limiter = limiter
        self.endpoint = endpoint
        self.namespace = SimpleNamespace(offer_alpn=OFFERS, owner=OWNER_KEY)
        self.shelf = SimpleNamespace(info=self.info)
        self.giving = self.most = self.refused = 0
        self.ways = OpenWays()
        self.meetings = OfferExchange(self, self.ways, NOBODY, Deaf())  # type: ignore[arg-type]

    async def give(self, connection: Connection, begun: asyncio.Event | None) -> bool:
        self.giving += 1
        self.most = max(self.most, self.giving)
        try:
            shelf = OneRelease(self.served, self.limiter)
            served = await serve_release(
                connection,
                shelf,  # type: ignore[arg-type]
                owner=OWNER_KEY,
                now=lambda: MINUTE * 60.0,
                begun=begun,
            )
        finally:
            self.giving -= 1
        self.refused += served is None
        return served is not None


@contextlib.asynccontextmanager
async def open_nodes(count: int) -> AsyncIterator[list[Endpoint]]:
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_endpoint()) for _ in range(count)]


@contextlib.asynccontextmanager
async def open_holder(folder: Path, limiter: UploadLimiter) -> AsyncIterator[Holder]:
    async with open_endpoint() as endpoint:
        holder = Holder(endpoint, folder, limiter)
        running = asyncio.create_task(holder.meetings.run())
        try:
            yield holder
        finally:
            running.cancel()
            await asyncio.wait([running])


async def take_slowly(connection: Connection) -> None:
    """Ask, and read no more than the beginning."""
    await receive_offer(connection, OWNER_KEY)
    stream = await connection.open_stream()
    await stream.write(wire.auth_value(OWNER_KEY, MINUTE))
    await stream.read(1)
    await connection.wait_closed()


async def test_four_slow_takers_keep_nobody_from_a_holder_that_must_dial(tmp_path: Path) -> None:
    got = Kept()

    async def take(connection: Connection) -> None:
        await receive_offer(connection, OWNER_KEY)
        await fetch_release(connection, got, owner=OWNER_KEY, expect=None, now=lambda: MINUTE * 60.0)

    async with open_holder(tmp_path, UploadLimiter()) as holder, open_nodes(5) as nodes:
        for node, handler in zip(nodes, [take_slowly] * 4 + [take], strict=True):
            node.serve(OFFERS, handler)
            holder.ways.open.put_nowait(node.addresses[0])
        await until(lambda: len(got) == SIZE)
        assert got == holder.body
        assert holder.giving >= 4


async def test_slow_takers_are_as_many_as_uploads_and_four_that_ask(tmp_path: Path) -> None:
    async with open_holder(tmp_path, UploadLimiter(lan_uploads=2)) as holder, open_nodes(12) as nodes:
        for node in nodes:
            node.serve(OFFERS, take_slowly)
            holder.ways.open.put_nowait(node.addresses[0])
        await until(lambda: holder.refused == 10)
        assert holder.giving == 2
        assert holder.most <= 6
