"""What a node keeps for others: peers of info-hashes (BEP 5) and mutable items (BEP 44), in bounded memory.

Pure; time is passed in. Who may write is decided by tokens and signatures before anything comes here. When an item
store is full, it forgets the oldest item of the network (/24 or /48) that wrote the most, so that one writer of junk
evicts itself first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from random import Random

from pypatcher.addresses import Address, budget_group
from pypatcher.dht.mutable import MutableItem

__all__ = ["ITEM_LIFETIME", "PEER_LIFETIME", "ItemStore", "PeerStore"]

PEER_LIFETIME = 45 * 60.0
ITEM_LIFETIME = 2 * 3600.0


class PeerStore:
    """Peers by info-hash, the least recently announced forgotten first."""

    def __init__(self, *, info_hashes: int = 500, peers_each: int = 500) -> None:
        self._limit = info_hashes
        self._peers_each = peers_each
        self._peers: OrderedDict[bytes, OrderedDict[Address, float]] = OrderedDict()

    def add(self, info_hash: bytes, peer: Address, now: float) -> None:
        """Remember a peer for 45 minutes."""
        peers = self._peers.setdefault(info_hash, OrderedDict())
        peers[peer] = now
        peers.move_to_end(peer)
        if len(peers) > self._peers_each:
            peers.popitem(last=False)
        self._peers.move_to_end(info_hash)
        if len(self._peers) > self._limit:
            self._peers.popitem(last=False)

    def get(self, info_hash: bytes, now: float, count: int, random: Random) -> list[Address]:
        """Up to ``count`` living peers, a random choice when there are more."""
        peers = self._peers.get(info_hash)
        if peers is None:
            return []
        while peers and next(iter(peers.values())) + PEER_LIFETIME < now:
            peers.popitem(last=False)
        if not peers:
            del self._peers[info_hash]
        found = list(peers)
        return found if len(found) <= count else random.sample(found, count)

    def __len__(self) -> int:
        return sum(len(peers) for peers in self._peers.values())


@dataclass(frozen=True, slots=True)
class _Stored:
    item: MutableItem
    group: str
    since: float


class ItemStore:
    """Mutable items by target, for 2 hours after they were last put."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._items: OrderedDict[bytes, _Stored] = OrderedDict()
        self._groups: dict[str, OrderedDict[bytes, None]] = {}

    def get(self, target: bytes, now: float) -> MutableItem | None:
        """The living item under a target."""
        stored = self._items.get(target)
        return stored.item if stored is not None and stored.since + ITEM_LIFETIME >= now else None

    def put(self, item: MutableItem, source: Address, now: float) -> None:
        """Keep a verified item in place of what its target held."""
        target = item.target
        self._forget(target)
        group = budget_group(source)
        self._items[target] = _Stored(item, group, now)
        self._groups.setdefault(group, OrderedDict())[target] = None
        while self._items and next(iter(self._items.values())).since + ITEM_LIFETIME < now:
            self._forget(next(iter(self._items)))
        if len(self._items) > self._limit:
            largest = max(self._groups.values(), key=len)
            self._forget(next(iter(largest)))

    def _forget(self, target: bytes) -> None:
        stored = self._items.pop(target, None)
        if stored is None:
            return
        group = self._groups[stored.group]
        del group[target]
        if not group:
            del self._groups[stored.group]

    def __len__(self) -> int:
        return len(self._items)
