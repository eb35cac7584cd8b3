"""A DHT on loopback in which every node lies, and the peers that it names, which lie as well.

    async with open_liars(namespace, old_word, newest) as liars:
        device = Device(folder, program, owner, liars.bootstrap)
        await liars.have_told_everything()

Everything that they need everybody has who has a copy of the program: the owner's key, his last word, and the release
that he signed. Beside each of the pointer's names they give junk of the highest seq, his old word, or nothing; in every
minute slot junk of the highest seq, true records of the old release, and records that name a liar as the new one's
holder; in every swarm liars and addresses that nobody has. Whom they name dials everybody who asks for a swarm, says
to have a word of the highest seq and the newest release, and gives junk for both.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import cast

from pypatcher.addresses import Address, pack_compact
from pypatcher.artifact import PatchInfo
from pypatcher.artifact.manifest import POSITIONS, ManifestFile, pointer_salt
from pypatcher.bencode import Value
from pypatcher.dht import Contact, krpc
from pypatcher.discovery import Namespace, Record, Slot, encode_content, encrypt_record
from pypatcher.discovery.slots import unix_minute
from pypatcher.errors import CodecError, PeerError
from pypatcher.keys import KeyPair
from pypatcher.mutable_item import MAX_SEQ, MutableItem, mutable_target
from pypatcher.transfer import wire
from pypatcher.transfer.v1.messages import Hello, Kind
from pypatcher.transport import Connection
from tests.support.transport import loopback
from tests.support.v1_nodes import Liar, open_liar

__all__ = ["Liars", "open_liars"]

_HIGHEST = (1 << 53) - 1
_NODES = 40
_NOBODY = [("127.99.0.1", 6881 + number) for number in range(20)]
_JUNK = b"junk" * 200
_SLOTS = (-2, -1, 0, 1)
"""Minutes, seen from now, of the slots that anybody looks into."""
_TIMES = 50
_PATIENCE = 60.0


@dataclass(frozen=True)
class _Plot:
    """What all liars know."""

    namespace: Namespace
    old: ManifestFile
    old_release: PatchInfo
    newest: PatchInfo
    holders: Sequence[Address]


class _LyingNode(asyncio.DatagramProtocol):
    """Answers in good form, names the other liars, says ok to whatever is stored and keeps nothing."""

    def __init__(self, number: int, plot: _Plot, told: Counter[str]) -> None:
        self.id = random.randbytes(20)
        self.circle: Sequence[Contact] = ()
        self.callers: dict[Address, None] = {}
        self._number, self._plot, self._told = number, plot, told
        self._forger = KeyPair.generate()
        self._slots: dict[bytes, Slot] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Address) -> None:
        try:
            query = krpc.decode(data)
        except CodecError:
            return
        if isinstance(query, krpc.Query):
            if query.method == b"get_peers":
                self.callers[addr] = None
            self._transport.sendto(krpc.encode_response(query.transaction, self.id, self._answer(query), addr), addr)

    def _answer(self, query: krpc.Query) -> dict[bytes, Value]:
        nodes: Value = krpc.pack_nodes(random.sample(self.circle, 8))
        match query.method:
            case b"find_node":
                return {b"nodes": nodes}
            case b"get_peers":
                self._told["swarm"] += 1
                named = [pack_compact(address) for address in (*self._plot.holders, *_NOBODY)]
                return {b"nodes": nodes, b"token": b"token", b"values": cast("list[Value]", named)}
            case b"get":
                item = self._item(query.arguments.get(b"target"))
                kept: dict[bytes, Value] = {}
                if item is not None:
                    kept = {b"k": item.public_key, b"seq": item.seq, b"sig": item.signature, b"v": item.value}
                return {b"nodes": nodes, b"token": b"token", **kept}
        return {}

    def _item(self, target: object) -> MutableItem | None:
        plot, minute = self._plot, unix_minute(time.time())
        owner, name = plot.namespace.owner, plot.namespace.target_name or ""
        for position in range(POSITIONS):
            salt = pointer_salt(name, position)
            if target == mutable_target(owner, salt):
                self._told[f"position {position}"] += 1
                mine = plot.old.for_target(name)
                assert mine is not None
                junk = MutableItem(owner, salt, _HIGHEST, _JUNK, bytes(64))
                return (junk, mine.item(position), None)[self._number % 3]
        for each in (Slot(plot.namespace, minute + away) for away in _SLOTS):
            if target == mutable_target(each.key_pair.public, each.salt):
                self._told["slot"] += 1
                return self._record(each)
        return None

    def _record(self, slot: Slot) -> MutableItem:
        """Signed as any item of that slot, for the key is everybody's."""
        kind = self._number % 3
        if not kind:
            return MutableItem.sign(slot.key_pair, slot.salt, MAX_SEQ, _JUNK)
        info = self._plot.old_release if kind == 1 else self._plot.newest
        content = encode_content(info, random.sample(self._plot.holders, 1), speaks_v1=random.random() < 0.5)
        value = encrypt_record(slot, Record.make(slot, self._forger, content))
        return MutableItem.sign(slot.key_pair, slot.salt, MAX_SEQ, value)


class Liars:
    """All of them.

    Attributes:
        told: how often each kind of lie was told.
        peers: those whom the others name.
    """

    def __init__(self, nodes: Sequence[tuple[Address, _LyingNode]], peers: Sequence[Liar], told: Counter[str]) -> None:
        self.bootstrap = tuple(address for address, _ in nodes[:3])
        self.told = told
        self.peers = peers

    @property
    def untold(self) -> set[str]:
        """The kinds of lies that were not told to anybody, or hardly."""
        kinds = {"slot", "swarm", *(f"position {number}" for number in range(POSITIONS))}
        few = {kind for kind in kinds if self.told[kind] < _TIMES}
        return few if any(Kind.MANIFEST in peer.asked for peer in self.peers) else few | {"word"}

    async def have_told_everything(self) -> None:
        """Wait until somebody was told each of these lies, several times."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while self.untold:
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"not told: {self.untold}") from None


@contextlib.asynccontextmanager
async def open_liars(
    namespace: Namespace, old: ManifestFile, old_release: PatchInfo, newest: PatchInfo
) -> AsyncIterator[Liars]:
    """Lie until the end of the block."""
    loop, told = asyncio.get_running_loop(), Counter[str]()
    async with contextlib.AsyncExitStack() as stack:
        hello = Hello(held=(newest,), seq=_HIGHEST, digest=bytes(8), mask=(1 << POSITIONS) - 1)
        peers = [await stack.enter_async_context(open_liar(hello, namespace=namespace)) for _ in range(3)]
        for peer in peers:
            peer.answers[Kind.MANIFEST] = b"\0" + _JUNK
            peer.endpoint.serve(namespace.alpn, lambda connection: _give_junk(connection, newest, told))
        plot = _Plot(namespace, old, old_release, newest, [peer.address for peer in peers])
        nodes: list[tuple[Address, _LyingNode]] = []
        for number in range(_NODES):
            node = _LyingNode(number, plot, told)
            transport, _ = await loop.create_datagram_endpoint(lambda node=node: node, local_addr=(loopback(), 0))  # type: ignore[misc]
            stack.callback(transport.close)
            nodes.append((transport.get_extra_info("sockname"), node))
        for _, node in nodes:
            node.circle = [Contact(each.id, address) for address, each in nodes]
        async with asyncio.TaskGroup() as tasks:
            dialing = tasks.create_task(_dial(peers, [node for _, node in nodes], namespace))
            yield Liars(nodes, peers, told)
            dialing.cancel()


async def _dial(peers: Sequence[Liar], nodes: Sequence[_LyingNode], namespace: Namespace) -> None:
    """Each peer dials each caller, again when that hangs up."""

    async def talk(peer: Liar, address: Address) -> None:
        while True:
            with contextlib.suppress(PeerError):
                alpn = namespace.alpn_v1 or ""
                await peer.talk(await peer.endpoint.connect(address, node_id=None, alpn=alpn))
            await asyncio.sleep(0.5)

    begun: set[Address] = set()
    async with asyncio.TaskGroup() as tasks:
        while True:
            callers = {address for node in nodes for address in node.callers} - begun
            begun |= callers
            for address in callers:
                for peer in peers:
                    tasks.create_task(talk(peer, address))
            await asyncio.sleep(0.1)


async def _give_junk(connection: Connection, info: PatchInfo, told: Counter[str]) -> None:
    with contextlib.suppress(PeerError):
        stream = await connection.accept_stream()
        await stream.read_exactly(wire.REQUEST_SIZE)
        told["release"] += 1
        await stream.write(wire.encode_acceptance(info, info.file_size) + _JUNK)
        await stream.finish()
        await connection.wait_closed()
