"""The routing table: the nodes that we know, more of them the nearer they are to our own id (Kademlia, BEP 5).

Sans-IO: told who answered, was asked and failed, it says whom to ask for a target and whom to check; it sends nothing.
Only nodes that answered us enter. Buckets go by the length of the prefix shared with our own id; some nodes that
answered while a bucket was full wait to replace one that dies. A node that stays silent is named to nobody, and
forgotten when a better one waits or after its third silence. Away from the LAN one host and one network may have only
a few nodes (``crowd``), so that many ids on few machines cannot fill the table.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pypatcher.addresses import Address
from pypatcher.dht.crowd import Crowd, Near
from pypatcher.dht.nodeid import Contact, prefix_length

__all__ = ["BUCKET_SIZE", "RoutingTable"]

BUCKET_SIZE = 20
_WAITING = 8
_TOTAL = 640
_SUSPECT, _GONE = 2, 3


@dataclass(slots=True, eq=False)
class _Node:
    contact: Contact
    number: int
    seen: float
    failures: int = 0


class RoutingTable:
    """Nodes around ``own_id``."""

    def __init__(self, own_id: bytes, near: Near | None = None) -> None:
        self.own_id = own_id
        self.near = near or Near()
        self._buckets: dict[int, list[_Node]] = {}
        self._waiting: dict[int, list[_Node]] = {}
        self._by_address: dict[Address, _Node] = {}
        self._crowd = Crowd(self.near)

    def __len__(self) -> int:
        return len(self._by_address)

    def __iter__(self) -> Iterator[Contact]:
        return (node.contact for node in self._by_address.values())

    def __contains__(self, contact: Contact) -> bool:
        node = self._by_address.get(contact.address)
        return node is not None and node.contact.id == contact.id

    def rebase(self, own_id: bytes) -> None:
        """Take another id of our own: every node goes to the bucket that it now belongs to."""
        nodes = sorted(self._by_address.values(), key=lambda node: node.failures)
        self.own_id = own_id
        self._buckets.clear()
        self._waiting.clear()
        self._by_address.clear()
        self._crowd = Crowd(self.near)
        for node in nodes:
            if node.contact.id != own_id:
                self._insert(node.contact, node.seen)

    def answered(self, contact: Contact, now: float) -> None:
        """A node answered us from the address that we asked: it is alive, and enters if there is room."""
        if contact.id == self.own_id:
            return
        known = self._by_address.get(contact.address)
        if known is not None and known.contact.id == contact.id:
            known.seen = now
            known.failures = 0
            return
        if known is not None:
            self._remove(known)
        self._insert(contact, now)

    def wants(self, contact: Contact) -> bool:
        """Whether a node that asked us would find room, so that a ping to it is worth sending."""
        if (
            contact.id == self.own_id
            or contact.address in self._by_address
            or not self._crowd.has_room(contact.address)
        ):
            return False
        bucket = self._buckets.get(self._index(contact), [])
        if any(node.contact.id == contact.id and not node.failures for node in bucket):
            return False
        return len(bucket) < BUCKET_SIZE or any(node.failures for node in bucket)

    def failed(self, address: Address) -> None:
        """A node did not answer, after all tries."""
        node = self._by_address.get(address)
        if node is None:
            return
        node.failures += 1
        waiting = self._waiting.get(self._index(node.contact), [])
        if node.failures >= _GONE or (node.failures >= _SUSPECT and waiting):
            self._remove(node)
            before = len(self)
            while waiting and len(self) == before:
                heir = waiting.pop()
                self._insert(heir.contact, heir.seen)

    def nearest(self, target: bytes, count: int, *, good: bool = False) -> list[Contact]:
        """The nearest nodes; silent ones only if ``good`` is false, and then after the others."""
        number = int.from_bytes(target, "big")
        nodes = [node for node in self._by_address.values() if node.failures < _SUSPECT]
        nodes.sort(key=lambda node: node.number ^ number)
        if not good and len(nodes) < count:
            silent = [node for node in self._by_address.values() if node.failures >= _SUSPECT]
            nodes += sorted(silent, key=lambda node: node.number ^ number)
        return [node.contact for node in nodes[:count]]

    def good(self) -> list[Contact]:
        """Every node whose last tries were answered, the most recently seen first."""
        nodes = [node for node in self._by_address.values() if not node.failures]
        return [node.contact for node in sorted(nodes, key=lambda node: -node.seen)]

    def stalest(self, before: float) -> Contact | None:
        """The node unseen for the longest, if that was before ``before``: the one to check next."""
        node = min(self._by_address.values(), key=lambda node: node.seen, default=None)
        return node.contact if node is not None and node.seen < before else None

    def knows(self, address: Address) -> bool:
        """Whether the node at an address is in the table."""
        return address in self._by_address

    def room(self, index: int) -> bool:
        """Whether the bucket of nodes that share ``index`` leading bits with us is not full."""
        return len(self._buckets.get(index, ())) < BUCKET_SIZE

    def _index(self, contact: Contact) -> int:
        return prefix_length(self.own_id, contact.id)

    def _insert(self, contact: Contact, now: float) -> None:
        if contact.address in self._by_address or not self._crowd.has_room(contact.address):
            return  # who waited may have entered elsewhere meanwhile, under another id
        index = self._index(contact)
        bucket = self._buckets.setdefault(index, [])
        node = _Node(contact, int.from_bytes(contact.id, "big"), now)
        twin = next((other for other in bucket if other.contact.id == contact.id), None)
        if twin is not None:
            if not twin.failures:
                return
            self._remove(twin)
        if len(bucket) >= BUCKET_SIZE or len(self) >= _TOTAL:
            worst = max(bucket, key=lambda other: other.failures, default=None)
            if worst is None or worst.failures < _SUSPECT:
                waiting = self._waiting.setdefault(index, [])
                waiting[:] = [other for other in waiting if other.contact.address != contact.address][1 - _WAITING :]
                waiting.append(node)
                return
            self._remove(worst)
        bucket.append(node)
        self._by_address[contact.address] = node
        self._crowd.add(contact.address)

    def _remove(self, node: _Node) -> None:
        self._buckets[self._index(node.contact)].remove(node)
        del self._by_address[node.contact.address]
        self._crowd.remove(node.contact.address)
