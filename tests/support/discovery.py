"""Vectors, releases, and DHTs in memory for tests of discovery."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pypatcher.artifact import PatchInfo, make_info
from pypatcher.dht import MutableItem, MutableLookup
from pypatcher.discovery import Namespace
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.mutable_item import mutable_target
from pypatcher.version import Version

__all__ = [
    "MINUTE",
    "OURS",
    "OWNER",
    "RUST",
    "MemoryDht",
    "MinuteClock",
    "SilentDht",
    "namespace_of",
    "node",
    "release",
    "slot_vectors",
    "vectors",
]

OWNER = KeyPair.from_seed(bytes(range(32)))
OURS = Namespace.ours("x86_64", OwnerKey(OWNER.public))
RUST = Namespace.rustpatcher(OwnerKey(OWNER.public))
MINUTE = 29_400_000
_FOLDER = Path(__file__).parent.parent / "vectors"


def vectors(name: str) -> dict[str, Any]:
    """The vectors of ``rustpatcher`` or ``topic-tracker-0.3``; values are hexadecimal text."""
    found: dict[str, Any] = json.loads((_FOLDER / f"{name}.json").read_text())
    return found


def slot_vectors() -> list[dict[str, Any]]:
    """The slots of both crates."""
    return [*vectors("rustpatcher")["slots"], *vectors("topic-tracker-0.3")["slots"]]


def namespace_of(topic: str, owner: bytes) -> Namespace:
    """The namespace that a vector's topic is of."""
    match topic.split(":"):
        case ["pypatcher", target, _]:
            return Namespace.ours(target, OwnerKey(owner))
        case _:
            return Namespace.rustpatcher(OwnerKey(owner))


def node(number: int) -> KeyPair:
    """The key pair of the n-th test node."""
    return KeyPair.from_seed(number.to_bytes(32, "big"))


def release(version: str, key: KeyPair = OWNER) -> PatchInfo:
    """A release of that version, signed by the owner unless told otherwise."""
    return make_info(Version.parse(version), bytes(range(32)), 1000, key)


class MinuteClock:
    """Unix time that stands until somebody moves it."""

    def __init__(self, minute: int = MINUTE) -> None:
        self.minute = minute

    def __call__(self) -> float:
        return self.minute * 60 + 5.0


class MemoryDht:
    """Ten storing nodes that keep one item a target each, as libtorrent's do: a higher seq replaces, an equal one is
    answered with ok and dropped. A writer reaches ``reach`` of them, the next ones at each write."""

    def __init__(self, reach: int = 2) -> None:
        self.nodes: list[dict[bytes, MutableItem]] = [{} for _ in range(10)]
        self.lookups = 0
        self._reach = reach
        self._next = 0

    async def get_mutable(self, public_key: bytes, salt: bytes) -> MutableLookup:
        self.lookups += 1
        target = mutable_target(public_key, salt)
        items = dict.fromkeys(node[target] for node in self.nodes if target in node)
        return MutableLookup(target, tuple(sorted(items, key=lambda item: -item.seq)), (), 0.0)

    async def put_mutable(self, item: MutableItem, at: MutableLookup | None = None) -> int:
        assert item.verify()
        stored = 0
        for _ in range(self._reach):
            kept = self.nodes[self._next % len(self.nodes)]
            self._next += 1
            if item.target not in kept or kept[item.target].seq < item.seq:
                kept[item.target] = item
            stored += kept[item.target].seq <= item.seq
        return stored


class SilentDht:
    """Answers nothing; every operation fails with ``error``."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def get_mutable(self, public_key: bytes, salt: bytes) -> MutableLookup:
        raise self._error

    async def put_mutable(self, item: MutableItem, at: MutableLookup | None = None) -> int:
        raise self._error
