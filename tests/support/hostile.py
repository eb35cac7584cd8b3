"""A node that speaks the protocol and lies: it announces what it is told to, and answers as it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.dht import MutableItem, UdpDht
from pypatcher.discovery.announcement import encode_content
from pypatcher.discovery.records import Record, encrypt_record
from pypatcher.discovery.slots import Slot, unix_minute
from pypatcher.keys import KeyPair
from pypatcher.transport import Connection, Endpoint, Stream, wire
from tests.support.devices import World
from tests.support.transport import loopback

__all__ = ["HostilePeer", "open_hostile_peer", "sending"]

Answer = Callable[[Stream], Awaitable[None]]
_AGAIN = 0.3


class HostilePeer:
    """Announces and serves whatever it likes.

    Attributes:
        asked: set when somebody asked it for a release.
    """

    def __init__(self, world: World, endpoint: Endpoint, dht: UdpDht, identity: KeyPair, answer: Answer) -> None:
        self.endpoint = endpoint
        self.asked = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self._namespace = world.namespace
        self._dht = dht
        self._identity = identity
        self._answer = answer
        endpoint.serve(world.namespace.alpn, self._serve)

    async def announce(self, info: PatchInfo, *addresses: Address, minutes_ago: int = 1) -> None:
        """Write a record for that release, at its own address unless others are given, and go on writing it.

        In the slot of a minute ago, which others read and no honest node writes to: a slot holds one record a storing
        node, and a network of a handful of nodes therefore one in all.
        """
        hints = addresses or self.endpoint.addresses
        assert await self._write(info, hints, minutes_ago)
        self.tasks.append(asyncio.create_task(self._write_again(info, hints, minutes_ago)))

    async def _write_again(self, info: PatchInfo, hints: tuple[Address, ...], minutes_ago: int) -> None:
        while True:
            await asyncio.sleep(_AGAIN)
            await self._write(info, hints, minutes_ago)

    async def _write(self, info: PatchInfo, hints: tuple[Address, ...], minutes_ago: int) -> int:
        slot = Slot(self._namespace, unix_minute(time.time()) - minutes_ago)
        value = encrypt_record(slot, Record.make(slot, self._identity, encode_content(info, hints)))
        return await self._dht.put_mutable(MutableItem.sign(slot.key_pair, slot.salt, info.version.seq(), value))

    async def _serve(self, connection: Connection) -> None:
        stream = await connection.accept_stream()
        await stream.read_exactly(wire.REQUEST_SIZE)
        self.asked.set()
        await self._answer(stream)
        await connection.wait_closed()


def sending(info: PatchInfo, data: bytes, *, length: int | None = None) -> Answer:
    """Accept, announce ``length`` bytes of data (by default as many as there are), send the data, and end."""

    async def answer(stream: Stream) -> None:
        await stream.write(wire.encode_acceptance(info, len(data) if length is None else length) + data)
        await stream.finish()

    return answer


@contextlib.asynccontextmanager
async def open_hostile_peer(world: World, answer: Answer) -> AsyncIterator[HostilePeer]:
    """A hostile peer on addresses of its own."""
    identity, host = KeyPair.generate(), loopback()
    endpoint = await Endpoint.open(identity, [(host, 0)])
    try:
        async with UdpDht((host, 0), bootstrap=world.net.bootstrap) as dht:
            await dht.joined()
            peer = HostilePeer(world, endpoint, dht, identity, answer)
            try:
                yield peer
            finally:
                for task in peer.tasks:
                    task.cancel()
                await asyncio.gather(*peer.tasks, return_exceptions=True)
    finally:
        await endpoint.close()
