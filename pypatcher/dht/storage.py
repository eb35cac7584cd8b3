"""What a node keeps for others: peers of info-hashes (BEP 5) and mutable items (BEP 44), in bounded memory.

Pure; time is passed in. Who may write is decided by tokens and signatures before anything comes here. A full store
forgets the oldest entry of whoever wrote the most, so that a writer of junk evicts itself first.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from pypatcher.addresses import Address
from pypatcher.crowds import Crowds
from pypatcher.mutable_item import MutableItem

__all__ = ["ITEM_LIFETIME", "PEER_LIFETIME", "ItemStore", "PeerStore"]

PEER_LIFETIME = 45 * 60.0
ITEM_LIFETIME = 2 * 3600.0

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[_Value]):
    value: _Value
    source: Address
    since: float


class _FairStore(Generic[_Key, _Value]):
    """At most ``limit`` entries, each for ``lifetime`` seconds after it was last put."""

    def __init__(self, limit: int, lifetime: float) -> None:
        self._limit = limit
        self._lifetime = lifetime
        self._entries: dict[_Key, _Entry[_Value]] = {}
        self._crowds: Crowds[_Key] = Crowds()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: _Key, now: float) -> _Value | None:
        entry = self._entries.get(key)
        return entry.value if entry is not None and entry.since + self._lifetime >= now else None

    def living(self, now: float) -> list[_Key]:
        """Every key that is kept, but for the dead ones, which are the oldest and so the first."""
        dead = 0
        for entry in self._entries.values():
            if entry.since + self._lifetime >= now:
                break
            dead += 1
        return list(self._entries)[dead:]

    def put(self, key: _Key, value: _Value, source: Address, now: float) -> list[_Key]:
        """Keep an entry in place of what its key held; returns the keys that were forgotten for it."""
        self.remove(key)
        self._entries[key] = _Entry(value, source, now)
        self._crowds.add(key, source)
        gone: list[_Key] = []
        while (oldest := next(iter(self._entries))) != key and self._entries[oldest].since + self._lifetime < now:
            gone.append(oldest)
            self.remove(oldest)
        if len(self._entries) > self._limit:
            gone.append(self._crowds.first_to_go())
            self.remove(gone[-1])
        return gone

    def remove(self, key: _Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._crowds.remove(key, entry.source)


class PeerStore:
    """Peers by info-hash, for 45 minutes; at most 500 per info-hash and 5000 in all."""

    def __init__(self, limit: int = 5000, *, each: int = 500) -> None:
        self._store: _FairStore[tuple[bytes, Address], None] = _FairStore(limit, PEER_LIFETIME)
        self._peers: dict[bytes, _FairStore[Address, None]] = {}
        self._each = each

    def __len__(self) -> int:
        return len(self._store)

    def add(self, info_hash: bytes, peer: Address, now: float) -> None:
        """Remember a peer."""
        peers = self._peers.setdefault(info_hash, _FairStore(self._each, PEER_LIFETIME))
        for gone_peer in peers.put(peer, None, peer, now):
            self._store.remove((info_hash, gone_peer))
        for gone_hash, gone in self._store.put((info_hash, peer), None, peer, now):
            remaining = self._peers[gone_hash]
            remaining.remove(gone)
            if not remaining:
                del self._peers[gone_hash]

    def get(self, info_hash: bytes, now: float, count: int, random: Random) -> list[Address]:
        """Up to ``count`` living peers, a random choice when there are more."""
        peers = self._peers.get(info_hash)
        living = peers.living(now) if peers else []
        return living if len(living) <= count else random.sample(living, count)


class ItemStore:
    """Mutable items by target, for 2 hours, at most 1000."""

    def __init__(self, limit: int = 1000) -> None:
        self._store: _FairStore[bytes, MutableItem] = _FairStore(limit, ITEM_LIFETIME)

    def __len__(self) -> int:
        return len(self._store)

    def get(self, target: bytes, now: float) -> MutableItem | None:
        """The living item under a target."""
        return self._store.get(target, now)

    def put(self, item: MutableItem, source: Address, now: float) -> None:
        """Keep a verified item in place of what its target held."""
        self._store.put(item.target, item, source, now)
