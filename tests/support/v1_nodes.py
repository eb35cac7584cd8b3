"""Nodes that speak v1 on loopback, and peers that send whatever a test tells them to.

A ``Speaker`` is what a node is for its peers: a shelf, the owner's word, and the v1 exchange; ``meet`` dials and talks
to the end. A ``Liar`` speaks the bytes of v1 and answers as it is told. Not here: discovery, an updater, v0.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from pypatcher.addresses import Address
from pypatcher.artifact.manifest import Manifest
from pypatcher.artifact.postcard import encode_unsigned
from pypatcher.budgets import UploadLimiter
from pypatcher.discovery import Namespace
from pypatcher.discovery.census import Census
from pypatcher.errors import PeerError
from pypatcher.install import LocalRelease
from pypatcher.transfer import StallRule
from pypatcher.transfer.shelf import Shelf
from pypatcher.transfer.v1.exchange import ExchangeV1
from pypatcher.transfer.v1.messages import Hello, Kind, MessageReader, encode_message
from pypatcher.transport import CloseCode, Connection, Endpoint
from pypatcher.transport.stream import Stream
from pypatcher.update.word import Kept, OwnersWord
from tests.support.manifests import OWNER_KEY, TARGET
from tests.support.node_fakes import EventLog
from tests.support.transport import open_endpoint

__all__ = ["NAMESPACE", "Liar", "MemoryWords", "Speaker", "open_liar", "open_speaker"]

NAMESPACE = Namespace.ours(TARGET, OWNER_KEY)


class MemoryWords:
    """Keeps the owner's word for as long as the test."""

    def __init__(self) -> None:
        self.kept = Kept()

    def read(self) -> Kept:
        return self.kept

    def keep(self, word: Manifest) -> Manifest:
        self.kept = Kept(word.encode_kept(), word.seq)
        return word


class Speaker:
    """A node of the namespace."""

    def __init__(self, endpoint: Endpoint, limiter: UploadLimiter, stall: StallRule) -> None:
        self.endpoint = endpoint
        self.events = EventLog()
        self.word = OwnersWord(OWNER_KEY, TARGET, MemoryWords())
        self.shelf = Shelf(limiter)
        self.census = Census(asyncio.get_running_loop().time)
        self.exchange = ExchangeV1(
            endpoint, NAMESPACE, self.shelf, self.census, word=self.word, stall=stall, emit=self.events
        )
        endpoint.serve(self.exchange.alpn, self.exchange.answer)

    @property
    def address(self) -> Address:
        return self.endpoint.addresses[0]

    def hold(self, *held: LocalRelease) -> None:
        self.shelf.put(held)

    async def meet(self, other: Address, patience: float = 0.5) -> None:
        """Dial and talk until neither has asked anything for so many seconds."""
        connection = await self.exchange.dial(other)
        await self.exchange.run(self.exchange.enter(connection, patience=patience))


@contextlib.asynccontextmanager
async def open_speaker(
    word: Manifest | None = None,
    held: Sequence[tuple[LocalRelease, Path]] = (),
    *,
    limiter: UploadLimiter | None = None,
    stall: StallRule | None = None,
) -> AsyncIterator[Speaker]:
    async with open_endpoint() as endpoint:
        member = Speaker(endpoint, limiter or UploadLimiter(), stall or StallRule())
        if word is not None:
            member.word.hear_at_once(word.encode())
        member.hold(*(release for release, _ in held))
        yield member


class Liar:
    """Says ``hello`` and answers each type of request with the bytes that ``answers`` has for it, or UNKNOWN.

    What answers by the request's payload is a function in ``answers``.

    Attributes:
        asked: type of each request that came.
        heard: what others said to it.
        hangs_up: it ends the connection at the first request.
        drips: it accepts a request and then sends next to nothing.
    """

    def __init__(self, endpoint: Endpoint, hello: Hello, namespace: Namespace = NAMESPACE) -> None:
        self.endpoint = endpoint
        self.hello = hello
        self.answers: dict[int, bytes | Callable[[bytes], bytes]] = {}
        self.asked: list[int] = []
        self.heard: list[Hello] = []
        self.hangs_up = self.drips = False
        endpoint.serve(namespace.alpn_v1 or "", self.talk)

    @property
    def address(self) -> Address:
        return self.endpoint.addresses[0]

    async def dial(self, other: Speaker) -> Connection:
        return await self.endpoint.connect(other.address, node_id=None, alpn=NAMESPACE.alpn_v1 or "")

    async def talk(self, connection: Connection) -> None:
        stream = await connection.open_uni()
        await stream.write(encode_message(Kind.HELLO, self.hello.encode()))
        listening = asyncio.create_task(self._listen(connection))
        try:
            while True:
                stream = await connection.accept_stream()
                if self.hangs_up:
                    return
                await self._answer(stream)
        except PeerError:
            pass
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, connection: Connection) -> None:
        stream, reader = await connection.accept_uni(), MessageReader()
        while data := await stream.read(4096):
            self.heard += [Hello.decode(payload) for kind, payload in reader.feed(data) if kind == Kind.HELLO]

    async def _answer(self, stream: Stream) -> None:
        data = b""
        while part := await stream.read(4096):
            data += part
        ((kind, payload),) = MessageReader().feed(data)
        self.asked.append(kind)
        if self.drips:
            await stream.write(b"\0")
            await asyncio.sleep(60)
        answer = self.answers.get(kind, encode_unsigned(CloseCode.UNKNOWN))
        await stream.write(answer if isinstance(answer, bytes) else answer(payload))
        await stream.finish()


@contextlib.asynccontextmanager
async def open_liar(
    hello: Hello, prepare: Callable[[Liar], None] = lambda _: None, namespace: Namespace = NAMESPACE
) -> AsyncIterator[Liar]:
    async with open_endpoint() as endpoint:
        liar = Liar(endpoint, hello, namespace)
        prepare(liar)
        yield liar
