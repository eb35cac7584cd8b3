"""Reads and writes the minute slots of one namespace: which records count, and when this node keeps silent.

design.md "Discovery". A record counts only when the owner signed its release. Failed lookups and bad records are logged
and end nothing. Junk can be written into a slot by anybody who knows the public key: one look opens a bounded number
of its values, drawn at random so that junk cannot choose to come first, and lets the event loop run in between.

Not here: the formats (``slots``, ``records``, ``announcement``), intervals and pauses (``publisher``, the updater), and
what is done about a release.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.dht import MutableItem, MutableLookup
from pypatcher.discovery.announcement import decode_content, encode_content, says_v1
from pypatcher.discovery.namespace import Namespace, SlotRules
from pypatcher.discovery.records import Record, decrypt_record, encrypt_record
from pypatcher.discovery.slots import Slot, unix_minute
from pypatcher.errors import ArtifactError, CodecError, PatcherError
from pypatcher.keys import KeyPair
from pypatcher.mutable_item import MAX_SEQ
from pypatcher.version import Version

__all__ = ["HeardRecord", "MutableStore", "Published", "Tracker", "is_full", "next_seq"]

_log = logging.getLogger("pypatcher")
_OPEN_LIMIT = 128
_OPEN_AT_ONCE = 8
_DHT_TIMEOUT = 60.0
_REMEMBERED = 3600.0
"""Seconds for which a newer release that somebody named keeps us silent."""
_REMEMBERED_RELEASES = 8
_ANYWAY = 0.25
_MOST = 0.75


class MutableStore(Protocol):
    """The part of a DHT that slots need."""

    async def get_mutable(self, public_key: bytes, salt: bytes) -> MutableLookup:
        """Every distinct valid item under that key and salt, and where to store another."""

    async def put_mutable(self, item: MutableItem, at: MutableLookup | None = None) -> int:
        """Store the item; returns how many nodes took it."""


@dataclass(frozen=True, slots=True)
class HeardRecord:
    """One node says that it serves a release. The owner signed the release, the node signed the rest.

    Attributes:
        info: the release.
        node_id: the node's ed25519 public key, 32 bytes.
        addresses: at most 8 hints where it may be reached; none in records of the Rust program.
        minute: of the slot in which it was heard.
        speaks_v1: it speaks the v1 exchange.
    """

    info: PatchInfo
    node_id: bytes
    addresses: tuple[Address, ...]
    minute: int
    speaks_v1: bool = False


@dataclass(frozen=True, slots=True)
class _Visit:
    """What one visit of a slot found: where to store, None when the lookup failed, and who said what there."""

    lookup: MutableLookup | None
    there: Sequence[HeardRecord]
    by_value: Mapping[bytes, HeardRecord]


@dataclass(frozen=True, slots=True)
class Published:
    """The result of one publication.

    Attributes:
        minute: of the slot.
        stored: DHT nodes that keep our record; 0 when we kept silent or nobody answered.
        full: enough others say the same, or one on most of the nodes, whether we kept silent or not; pause longer.
        newer: we kept silent because a newer release is out.
    """

    minute: int
    stored: int
    full: bool = False
    newer: bool = False


class Tracker:
    """Looks and publishes for one node in one namespace.

    Args:
        identity: the node's key pair; its public key is the node id.
        now: unix time in seconds; it may jump.
        rng: chooses what to open of a slot that holds too much, and when to write into a full one.
    """

    def __init__(
        self,
        dht: MutableStore,
        namespace: Namespace,
        identity: KeyPair,
        *,
        now: Callable[[], float],
        rng: random.Random | None = None,
    ) -> None:
        self._dht = dht
        self._namespace = namespace
        self._identity = identity
        self._now = now
        self._rng = rng or random.Random()  # noqa: S311 - a fair draw, no secret
        self._newer: dict[PatchInfo, float] = {}
        self._wanted: frozenset[PatchInfo] | None = None
        self._written: MutableItem | None = None

    def heed(self, releases: Collection[PatchInfo] | None) -> None:
        """Which of the releases heard of this node takes: no other makes it silent. None: it takes nothing."""
        self._wanted = None if releases is None else frozenset(releases)

    async def look(self, *, is_short: bool = False) -> list[HeardRecord]:
        """Who was heard in the current and the previous minute: one record per node, the newest versions first.

        Args:
            is_short: only in the previous one, which is over.
        """
        minute = unix_minute(self._now())
        slots = [Slot(self._namespace, each) for each in (minute, minute - 1)[is_short:] if each >= 0]
        visits = await asyncio.gather(*(self._visit(slot) for slot in slots))
        return _one_per_node(heard for visit in visits for heard in visit.there)

    async def publish(self, info: PatchInfo, addresses: Iterable[Address]) -> Published:
        """Say in the current minute's slot that this node serves ``info`` at ``addresses``, unless silence is better.

        Into a full slot it is written once in four times all the same: five throw-away ids that repeat the current
        release must not silence those who have it. No packet goes to nodes that keep an item of our seq or a higher
        one: they would refuse ours. Junk on them silences nobody.

        Raises:
            VersionError: the version is too large to be announced in this namespace; ``sign`` refuses such ones.
        """
        slot = Slot(self._namespace, unix_minute(self._now()))
        rules = self._namespace.rules
        if self._is_outdated(info):
            return Published(slot.minute, 0, newer=True)
        visit = await self._visit(slot)
        lookup = visit.lookup
        if lookup is None:
            return Published(slot.minute, 0)
        newer = self._is_outdated(info)
        full = is_full(rules, info.version, self._heeded(info, visit.there)) or self._is_taken(info, visit, lookup)
        if newer or (full and self._rng.random() >= _ANYWAY):
            return Published(slot.minute, 0, full=full, newer=newer)
        seq = next_seq(rules, info.version, lookup.items)
        free = tuple(node for node in lookup.nodes if node.item is None or node.item.seq < seq)
        kept = sum(node.item is not None and node.item == self._written for node in lookup.nodes)
        if lookup.nodes and not free:
            return Published(slot.minute, kept, full=full)
        content = encode_content(info, addresses, speaks_v1=self._namespace.meets)
        record = Record.make(slot, self._identity, content)
        item = MutableItem.sign(slot.key_pair, slot.salt, seq, encrypt_record(slot, record))
        try:
            async with asyncio.timeout(_DHT_TIMEOUT):
                stored = await self._dht.put_mutable(item, replace(lookup, nodes=free))
        except (PatcherError, OSError) as error:
            _log.debug("publishing into minute %d failed: %s", slot.minute, error)
            return Published(slot.minute, 0)
        self._written = item
        return Published(slot.minute, stored + kept, full=full)

    def _is_taken(self, info: PatchInfo, visit: _Visit, lookup: MutableLookup) -> bool:
        """Whether most nodes keep another's record of our release or a better one: the first of equal seqs stays there.

        Where seqs count up, as in the namespace of the Rust program, every record finds its place.
        """
        if not self._namespace.rules.seq_is_version or not lookup.nodes:
            return False
        kept = [visit.by_value.get(node.item.value) for node in lookup.nodes if node.item is not None]
        taken = [each for each in kept if each is not None and each.info.version >= info.version]
        return len(self._heeded(info, taken)) >= _MOST * len(lookup.nodes)

    def _heeded(self, info: PatchInfo, there: Sequence[HeardRecord]) -> list[HeardRecord]:
        """Those that may make us silent: of what is newer than ours, only what this node takes."""
        if self._wanted is None or self._namespace.rules.counts_older:
            return list(there)
        return [each for each in there if each.info.version <= info.version or each.info in self._wanted]

    def _is_outdated(self, info: PatchInfo) -> bool:
        """Whether somebody said of late that a newer release is out, which this node takes.

        What does not fit here, such as a release for another target under a shared key, silences nobody. Nor does one
        that nobody names any more: its last holder may be gone, and we may be the last of ours.
        """
        now = self._now()
        return any(
            other.version > info.version
            and abs(now - heard) < _REMEMBERED
            and (self._wanted is None or other in self._wanted)
            for other, heard in self._newer.items()
        )

    def _note_newest(self, found: Sequence[HeardRecord]) -> None:
        for heard in found[:_REMEMBERED_RELEASES]:
            self._newer.pop(heard.info, None)
            self._newer[heard.info] = self._now()
        while len(self._newer) > _REMEMBERED_RELEASES:
            del self._newer[min(self._newer, key=lambda info: self._newer[info])]

    async def _visit(self, slot: Slot) -> _Visit:
        """Look a slot up: where to store, and who was heard in it, one record per node."""
        try:
            async with asyncio.timeout(_DHT_TIMEOUT):
                lookup = await self._dht.get_mutable(slot.key_pair.public, slot.salt)
        except (PatcherError, OSError) as error:
            _log.debug("looking at minute %d failed: %s", slot.minute, error)
            return _Visit(None, (), {})
        values = list(dict.fromkeys(item.value for item in lookup.items))
        if len(values) > _OPEN_LIMIT:
            values = self._rng.sample(values, _OPEN_LIMIT)
        heard: dict[bytes, HeardRecord] = {}
        for count, value in enumerate(values):
            if count % _OPEN_AT_ONCE == 0:
                await asyncio.sleep(0)
            try:
                heard[value] = self._open(slot, value)
            except (CodecError, ArtifactError) as error:
                _log.debug("a value in minute %d does not count: %s", slot.minute, error)
        others = {value: each for value, each in heard.items() if each.node_id != self._identity.public}
        found = _one_per_node(others.values())
        self._note_newest(found)
        return _Visit(lookup, found, others)

    def _open(self, slot: Slot, value: bytes) -> HeardRecord:
        record = decrypt_record(slot, value)
        info, addresses = decode_content(record.content)
        info.verify(self._namespace.owner)
        return HeardRecord(info, record.node_id, addresses, slot.minute, says_v1(record.content))


def is_full(rules: SlotRules, version: Version, there: Sequence[HeardRecord]) -> bool:
    """Whether a holder of ``version`` has nothing to add to a slot in which others were heard, one record per node.

    In our namespaces only who says the same or better counts: old devices, or old records of an attacker, never
    silence the holder of a new release.
    """
    counted = sum(rules.counts_older or heard.info.version >= version for heard in there)
    return counted >= rules.full_at


def next_seq(rules: SlotRules, version: Version, items: Iterable[MutableItem]) -> int:
    """The BEP 44 sequence number to write with into a slot that holds ``items``.

    Raises:
        VersionError: in our namespaces, a version that does not fit 53 bits.
    """
    if rules.seq_is_version:
        return version.seq()
    return min(max((item.seq for item in items), default=-1) + 1, MAX_SEQ)


def _one_per_node(heard: Iterable[HeardRecord]) -> list[HeardRecord]:
    """The best word of each node (newest version, then latest minute), the newest versions first."""
    best: dict[bytes, HeardRecord] = {}
    for each in sorted(heard, key=lambda each: (each.info.version, each.minute), reverse=True):
        best.setdefault(each.node_id, each)
    return list(best.values())
