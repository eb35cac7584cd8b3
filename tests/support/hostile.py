"""A node that speaks the protocol and lies, files that it sends, and the honest release that is taken all the same."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from pypatcher.addresses import Address
from pypatcher.artifact import REGION_SIZE, PatchInfo, make_info, read_release
from pypatcher.artifact.region import pack_region, template
from pypatcher.dht import MutableItem, UdpDht
from pypatcher.discovery.announcement import encode_content
from pypatcher.discovery.records import Record, encrypt_record
from pypatcher.discovery.slots import Slot, unix_minute
from pypatcher.keys import KeyPair
from pypatcher.transfer import wire
from pypatcher.transport import Connection, Endpoint, Stream
from pypatcher.version import Version
from tests.support.devices import PATIENCE, Device, LoopbackFleet
from tests.support.programs import PROGBITS, make_elf
from tests.support.transport import loopback

__all__ = [
    "HostilePeer",
    "open_hostile_peer",
    "region_offset",
    "sending",
    "take_an_honest_release",
    "two_regions",
]

Answer = Callable[[Stream], Awaitable[None]]
_AGAIN = 0.3


class HostilePeer:
    """Announces and serves whatever it likes.

    Attributes:
        asked: set when somebody asked it for a release.
    """

    def __init__(
        self, world: LoopbackFleet, endpoint: Endpoint, dht: UdpDht, identity: KeyPair, answer: Answer
    ) -> None:
        self.endpoint = endpoint
        self.asked = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []
        self._namespace = world.namespace
        self._dht = dht
        self._identity = identity
        self._answer = answer
        endpoint.serve(world.namespace.alpn, self._serve)

    async def announce(self, info: PatchInfo, *addresses: Address, minutes_ago: int = 1, crowded: bool = False) -> None:
        """Write a record for that release, at its own address unless others are given, and go on writing it.

        In the slot of a minute ago, which others read and no honest node writes to: a slot holds one record a storing
        node, and a network of a handful of nodes therefore one in all: the first, of those with the same version.
        ``crowded``: others announce that version there already, so that ours may not be kept.
        """
        hints = addresses or self.endpoint.addresses
        async with asyncio.timeout(PATIENCE):
            # A machine that is busy may be too late for all of them.
            while not await self._write(info, hints, minutes_ago) and not crowded:
                pass
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
async def open_hostile_peer(world: LoopbackFleet, answer: Answer) -> AsyncIterator[HostilePeer]:
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


async def take_an_honest_release(world: LoopbackFleet, device: Device, version: str = "3.0.0") -> None:
    """A device of the owner's announces that version, and ours stages it."""
    path, _ = world.release(version)
    world.device(path)
    await device.wait_for("release.staged", lambda event: event.version == version)
    staged = device.installation.staged_release()
    assert staged is not None
    assert staged.path.read_bytes() == path.read_bytes()


def region_offset(path: Path) -> int:
    """Where a release's region is."""
    with path.open("rb") as file:
        return read_release(file.fileno()).located.offset


def two_regions(key: KeyPair, version: str) -> tuple[bytes, PatchInfo]:
    """A program with a section of each name, and a true signature over the file without the first one's region."""
    region = template(Version.parse(version))
    sections = tuple((name, PROGBITS, region) for name in (".embedded_signature", ".embsig"))
    data = make_elf(sections=((".text", PROGBITS, b"\xc3" * 40), *sections))
    offset = data.index(region)
    rest = data[:offset] + data[offset + REGION_SIZE :]
    info = make_info(Version.parse(version), hashlib.sha512(rest).digest()[:32], len(rest), key)
    return data[:offset] + pack_region(info) + data[offset + REGION_SIZE :], info
