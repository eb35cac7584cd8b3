"""A DHT on virtual time with devices that read and write the pointer, and hosts that sit beside its names and lie.

    async def body() -> None:
        async with PointerLab(honest=150) as lab:
            owner, device = lab.device(word("2.0.0")), lab.device(word("1.0.0"))
            lab.besiege(says_nothing)
            await owner.pointer.read_all()
            ...

    run_alone(body())

DHT, lookups, schedule and word are the real code; the lab has no slots, no swarm and no connections.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self, cast

from pypatcher.addresses import Address
from pypatcher.artifact.manifest import POSITIONS, Manifest, pointer_salt
from pypatcher.bencode import Value
from pypatcher.dht import Contact, DhtNode, krpc
from pypatcher.dht.krpc import Query
from pypatcher.dht.storage import ItemStore as DhtItemStore
from pypatcher.discovery.sources import Found, Surroundings
from pypatcher.discovery.sources.pointer import Pointer
from pypatcher.mutable_item import MutableItem, mutable_target
from pypatcher.settings import Settings
from pypatcher.update.word import OwnersWord
from tests.support.dht_network import DhtNetwork
from tests.support.manifests import OWNER_KEY, TARGET
from tests.support.v1_nodes import MemoryWords

__all__ = ["PointerDevice", "PointerLab", "Says", "forges_the_highest_seq", "says_nothing", "says_old"]

HIGHEST_SEQ = (1 << 53) - 1
Says = Callable[[int], MutableItem | None]
"""What a liar beside a position keeps there."""


def says_nothing(_position: int) -> MutableItem | None:
    """It keeps nothing, and names the other liars."""
    return None


def forges_the_highest_seq(position: int) -> MutableItem | None:
    """Junk with the highest seq that there is, under a signature that is none."""
    return MutableItem(OWNER_KEY, pointer_salt(TARGET, position), HIGHEST_SEQ, b"junk", bytes(64))


def says_old(old: Manifest) -> Says:
    """The owner's true word of yesterday."""
    return old.item


def target_of(position: int) -> bytes:
    return mutable_target(OWNER_KEY, pointer_salt(TARGET, position))


class PointerDevice:
    """A device of the fleet: its DHT node, what it knows of the owner, and its pointer."""

    def __init__(self, node: DhtNode, word: Manifest | None, seed: int, crowd: int, settings: Settings) -> None:
        self.node = node
        loop = asyncio.get_running_loop()
        self.word = OwnersWord(OWNER_KEY, TARGET, MemoryWords(), clock=loop.time)
        if word is not None:
            self.word.hear_at_once(word.encode())
        self.host = SimpleNamespace(joined=node.joined)
        rng = random.Random(seed)
        around = Surroundings(
            cast("Any", self.host), settings, lambda _: None, rng, loop.time, self.word, lambda: crowd
        )
        self.pointer = Pointer(node, self.word, around)
        self.running: asyncio.Task[None] | None = None
        self.answered: list[float] = []
        """When somebody answered who would have named what is new."""

    def start(self) -> None:
        """Let it look as a device does, until the lab ends."""
        self.running = asyncio.create_task(self.pointer.run(self))

    def hear(self, found: Found) -> None:
        """What the pointer tells its listener."""
        if found.is_answer:
            self.answered.append(asyncio.get_running_loop().time())

    async def hears(self, word: Manifest, seconds: float) -> float | None:
        """Seconds until it knows that word; None if it does not within so many."""
        begun = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(seconds):
                while self.word.current is None or self.word.current.seq < word.seq:
                    await self.word.news.next.wait()
        except TimeoutError:
            return None
        return asyncio.get_running_loop().time() - begun


class _Besieger:
    """One of 24 ids beside a name, on 12 hosts in 3 /24s; it answers as it is told and names the others."""

    def __init__(self, lab: PointerLab, position: int, address: Address, node_id: bytes, says: Says) -> None:
        self.lab, self.position, self.says = lab, position, says
        self.contact = Contact(node_id, address)
        self.send = lab.net.send_from(address)
        lab.net.hosts[address] = self.received

    def received(self, data: bytes, source: Address) -> None:
        query = krpc.decode(data)
        if not isinstance(query, Query):
            return
        values: dict[bytes, Value] = {b"token": b"t"}
        item = self.says(self.position)
        if query.method == b"get" and item is not None:
            values |= {b"k": item.public_key, b"seq": item.seq, b"sig": item.signature, b"v": item.value}
        others = [each.contact for each in self.lab.besiegers if each.position == self.position]
        values[b"nodes"] = krpc.pack_nodes(others[:8])
        self.send(krpc.encode_response(query.transaction, self.contact.id, values, source), source)


class PointerLab:
    """Honest nodes with the tables of a day, and whatever a test adds.

    Args:
        honest: how many there are beside the devices.
    """

    def __init__(self, honest: int = 150, *, seed: int = 1) -> None:
        self.net = DhtNetwork(seed)
        self.seed = seed
        self.honest = self.net.grow(honest)
        self.devices: list[PointerDevice] = []
        self.besiegers: list[_Besieger] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for device in self.devices:
            if device.running is not None:
                device.running.cancel()
        await self.net.stop()

    def device(
        self, word: Manifest | None = None, *, crowd: int = 50, settings: Settings | None = None
    ) -> PointerDevice:
        """One more device, which knows that word."""
        node = self.net.grow(1)[0]
        node.introduce(each.contact for each in self.besiegers)
        self.devices.append(PointerDevice(node, word, self.seed + len(self.devices), crowd, settings or Settings()))
        return self.devices[-1]

    def besiege(self, says: Says, *, hosts: int = 12, per_host: int = 2) -> None:
        """Set liars beside all four names, and have everybody know them."""
        for position in range(POSITIONS):
            for number in range(hosts * per_host):
                host = number % hosts
                address = f"{70 + position}.6.{host % 3}.{1 + host // 3}", 6881 + number // hosts
                node_id = target_of(position)[:18] + bytes((0, number))
                self.besiegers.append(_Besieger(self, position, address, node_id, says))
        for node in self.net.nodes.values():
            node.introduce(each.contact for each in self.besiegers)

    def surround(self, says: Says) -> None:
        """Make all those liars that lookups end with: the 30 honest nodes nearest to each name keep nothing else."""
        for position in range(POSITIONS):
            target = int.from_bytes(target_of(position))
            nearest = sorted(self.honest, key=lambda node: int.from_bytes(node.node_id) ^ target)[:30]
            for node in nearest:
                address = self.net.address_of(node)
                self.besiegers.append(_Besieger(self, position, address, node.node_id, says))

    def forget(self) -> None:
        """Nobody keeps anything any more."""
        for node in self.honest:
            node.server.items = DhtItemStore()

    def keepers(self, word: Manifest) -> list[int]:
        """How many honest nodes keep that word at each position."""
        return [
            sum(
                (item := node.server.items.get(target_of(position), node.clock())) is not None
                and (item.seq, item.value) == (word.seq, word.value)
                for node in self.honest
            )
            for position in range(POSITIONS)
        ]
