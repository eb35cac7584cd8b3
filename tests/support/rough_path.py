"""A path between endpoints of QUIC on loopback that loses, doubles and reorders packets, by a seed.

    async with rough_path(server.address, Rough(lost=0.05), seed=1) as path:
        connection = await client.connect(path.address, ...)

It lies in front of the server, as a NAT does: the server sees a port of the path for each client, and another one after
``rebind``. ``at(COUNT, CALL)`` calls when so many packets went to clients, for what shall happen in the midst.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, cast

from pypatcher.addresses import Address
from tests.support.transport import loopback

__all__ = ["Rough", "RoughPath", "rough_path"]

_LATE = 0.02


@dataclass(frozen=True)
class Rough:
    """Shares of packets that are lost, come twice, and come up to 20 ms late, each way alike."""

    lost: float = 0.0
    doubled: float = 0.0
    late: float = 0.0


class _End(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes, Address], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, source: Any) -> None:
        self._take(data, source[:2])


class RoughPath:
    """Use ``rough_path``. ``address`` is where clients dial, ``counts`` what became of packets."""

    def __init__(self, server: Address, rough: Rough, seed: int) -> None:
        self.address: Address = (loopback(), 0)
        self.counts: Counter[str] = Counter()
        self._server, self._rough, self._random = server, rough, random.Random(seed)
        self._loop = asyncio.get_running_loop()
        self._backs: dict[Address, asyncio.DatagramTransport] = {}
        self._old: list[asyncio.DatagramTransport] = []
        self._calls: dict[int, Callable[[], object]] = {}

    async def open(self) -> None:
        """Bind where clients dial."""
        self._front = await self._bind(self.address[0], self._from_client)
        self.address = self._front.get_extra_info("sockname")[:2]

    def at(self, count: int, call: Callable[[], object]) -> None:
        """Call when so many packets went to clients."""
        self._calls[count] = call

    def rebind(self) -> None:
        """What clients send comes from other ports now; what the server sends to the old ones still arrives."""
        self._old += self._backs.values()
        self._backs.clear()

    def close(self) -> None:
        """Release all sockets."""
        for transport in (self._front, *self._old, *self._backs.values()):
            transport.close()

    async def _bind(self, host: str, take: Callable[[bytes, Address], None]) -> asyncio.DatagramTransport:
        made = await self._loop.create_datagram_endpoint(lambda: _End(take), local_addr=(host, 0))
        return cast(asyncio.DatagramTransport, made[0])

    def _from_client(self, data: bytes, client: Address) -> None:
        back = self._backs.get(client)
        if back is not None:
            self._carry(back, data, self._server)
            return
        # The packet that opens a way waits for its socket.
        task = self._loop.create_task(self._bind(self.address[0], lambda data, _: self._to_client(data, client)))

        def opened(task: asyncio.Task[asyncio.DatagramTransport]) -> None:
            if client in self._backs:
                task.result().close()
            else:
                self._backs[client] = task.result()
            self._carry(self._backs[client], data, self._server)

        task.add_done_callback(opened)

    def _to_client(self, data: bytes, client: Address) -> None:
        self.counts["to clients"] += 1
        if call := self._calls.pop(self.counts["to clients"], None):
            call()
        self._carry(self._front, data, client)

    def _carry(self, way_out: asyncio.DatagramTransport, data: bytes, address: Address) -> None:
        copies = 1
        if self._random.random() < self._rough.lost:
            self.counts["lost"] += 1
            return
        if self._random.random() < self._rough.doubled:
            self.counts["doubled"] += 1
            copies = 2
        for _ in range(copies):
            if self._random.random() < self._rough.late:
                self.counts["late"] += 1
                self._loop.call_later(self._random.uniform(0, _LATE), way_out.sendto, data, address)
            else:
                way_out.sendto(data, address)


@contextlib.asynccontextmanager
async def rough_path(server: Address, rough: Rough, seed: int = 1) -> AsyncIterator[RoughPath]:
    """A path to ``server``, until the end of the block."""
    path = RoughPath(server, rough, seed)
    await path.open()
    try:
        yield path
    finally:
        path.close()
