"""A simulated network of DHT nodes on virtual time: latency, loss, dead hosts, NAT-free, no sockets.

Every node is the real DhtNode; only its ``send`` is a function here.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random

from pypatcher.addresses import Address
from pypatcher.dht import DhtNode
from pypatcher.dht.nodeid import Contact, secure_id

__all__ = ["DhtNetwork"]


class DhtNetwork:
    """Hosts with public addresses, each in a /16 of its own and with an id that BEP 42 allows, but as told."""

    def __init__(self, seed: int = 1, *, latency: tuple[float, float] = (0.02, 0.12), loss: float = 0.0) -> None:
        self.random = Random(seed)
        self.latency = latency
        self.loss = loss
        self.nodes: dict[Address, DhtNode] = {}
        self.hosts: dict[Address, Callable[[bytes, Address], None]] = {}
        self.down: set[Address] = set()
        self.sent: Counter[Address] = Counter()
        self.sent_bytes: Counter[Address] = Counter()
        self.received: Counter[Address] = Counter()
        self._count = 0

    def new_address(self) -> Address:
        number = self._count = self._count + 1
        return f"{11 + number % 100}.{number // 100 % 250}.{number // 25_000}.1", 6881

    def send_from(self, source: Address) -> Callable[[bytes, Address], None]:
        loop = asyncio.get_running_loop()

        def send(data: bytes, destination: Address) -> None:
            self.sent[source] += 1
            self.sent_bytes[source] += len(data)
            if source in self.down or self.random.random() < self.loss:
                return
            loop.call_later(self.random.uniform(*self.latency), self._deliver, data, source, destination)

        return send

    def _deliver(self, data: bytes, source: Address, destination: Address) -> None:
        host = self.hosts.get(destination)
        if host is not None and destination not in self.down:
            self.received[destination] += 1
            host(data, source)

    def add(self, address: Address | None = None, **options: object) -> DhtNode:
        """A node that is not started yet."""
        address = address or self.new_address()
        node = DhtNode(
            self.send_from(address),
            clock=asyncio.get_running_loop().time,
            random=Random(self.random.getrandbits(64)),
            **options,  # type: ignore[arg-type]
        )
        node.table.rebase(secure_id(address[0], self.random))
        self.nodes[address] = node
        self.hosts[address] = node.datagram_received
        return node

    def address_of(self, node: DhtNode) -> Address:
        return next(address for address, other in self.nodes.items() if other is node)

    def contact_of(self, node: DhtNode) -> Contact:
        return Contact(node.node_id, self.address_of(node))

    def grow(self, count: int) -> list[DhtNode]:
        """``count`` nodes with the tables that they would have after a day, without the traffic of that day."""
        nodes = [self.add() for _ in range(count)]
        contacts = [Contact(node.node_id, address) for address, node in self.nodes.items()]
        for node in nodes:
            node.introduce(self.random.sample(contacts, len(contacts)))
        return nodes

    async def join(self, count: int, entries: Sequence[Address], **options: object) -> list[DhtNode]:
        """``count`` nodes that join by themselves, one after the other."""
        nodes = []
        for _ in range(count):
            node = self.add(bootstrap=entries, **options)
            await node.start()
            await node.joined()
            nodes.append(node)
        return nodes

    async def stop(self) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes.values()))
