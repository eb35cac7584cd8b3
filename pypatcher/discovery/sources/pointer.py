"""The pointer: the owner's manifest under four static names of the DHT, read, repaired and kept alive by its devices.

protocol.md "The pointer". It is no source of addresses: it runs beside them, and tells whoever keeps the owner's word.
It needs no clock. What is read when is ``PointerSchedule``'s, which knows neither sockets nor tasks. Only a whole item
is a word of the owner's; "I have the same seq" is none. Not here: which word counts (``artifact.manifest``), and what
lookups do against ids that somebody chose (``dht.lookup``).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pypatcher.addresses import Address, is_lan, network_of
from pypatcher.artifact import PatchInfo
from pypatcher.artifact.manifest import POSITIONS, Manifest, pointer_salt
from pypatcher.backoff import jittered
from pypatcher.dht import Contact, ItemAnswer, ItemLookup
from pypatcher.discovery.sources.source import AddressLimits, Found, Listener, Surroundings
from pypatcher.discovery.word import Heard, WordKeeper
from pypatcher.errors import PatcherError
from pypatcher.mutable_item import MutableItem
from pypatcher.waiting import wait_at_most

__all__ = ["Pointer", "PointerSchedule", "PointerStore", "Read", "pointer_source"]

_log = logging.getLogger("pypatcher")
_NO_ADDRESSES = AddressLimits("pointer", room=0, knocks=0)
_WHOLE_EVERY = 4
_UNFILTERED = 6 * 3600.0
_HOUR, _OVERDUE = 3600.0, 6000.0
_REPAIR_CHANCE = 0.5
_WRITERS = 8
_LEAST_CHANCE = 0.005
_ASKED = 5
_FEW, _NETWORKS = 4, 3
_TIMEOUT = 60.0
_REMEMBERED = 64


class PointerStore(Protocol):
    """The part of a DHT that the pointer needs."""

    async def find_item(
        self, public_key: bytes, salt: bytes, *, known: int | None = None, near: Iterable[Contact] = ()
    ) -> ItemLookup:
        """What each node near a key and salt keeps there."""

    async def ask_storers(
        self, storers: Sequence[Contact], public_key: bytes, salt: bytes, *, known: int | None = None
    ) -> list[ItemAnswer]:
        """What those nodes keep there."""

    async def put_mutable(self, item: MutableItem, at: ItemLookup | None = None) -> int:
        """Store it there; returns how many nodes took it."""


@dataclass(frozen=True, slots=True)
class Read:
    """What to read at one look.

    Attributes:
        position: 0 to 3.
        is_whole: by a lookup; otherwise of the storers that are remembered.
        is_filtered: who has nothing newer need not send what it has.
    """

    position: int
    is_whole: bool
    is_filtered: bool


@dataclass(slots=True)
class _Position:
    storers: tuple[Contact, ...] = ()
    is_thin: bool = True
    looks: int = 0
    written: float = float("-inf")
    kept_alive: float = 0.0
    keepers: dict[Address, None] = field(default_factory=dict)


class PointerSchedule:
    """Which position is read how, and which is written. Pure; times are monotonic seconds.

    At each look one position, in an order by chance: of 5 of the storers remembered, at every fourth look of a position
    by a lookup, and where those who give the newest word are few. Every 6 hours without the filter: a word that is only
    said to be the same is not heard. Who sees a position behind, or kept by fewer than half, writes it, one of two,
    once an hour at most. Storers keep a word for two hours: who looks a position up for the first time in an hour
    writes it with a chance that leaves about 8 writers of the fleet; what no lookup came to in 100 minutes is due.
    """

    def __init__(self, rng: random.Random, now: float) -> None:
        self._rng = rng
        self._positions = [_Position() for _ in range(POSITIONS)]
        self._unfiltered = now
        self._round: list[int] = []
        for place in self._positions:
            place.kept_alive = now

    def next(self, now: float) -> Read:
        """What to read now."""
        self._round = self._round or self._rng.sample(range(POSITIONS), POSITIONS)
        position = self._round.pop()
        place = self._positions[position]
        place.looks += 1
        is_whole = place.is_thin or not place.storers or place.looks % _WHOLE_EVERY == 0
        is_filtered = now - self._unfiltered < _UNFILTERED
        if not is_filtered:
            self._unfiltered = now
        return Read(position, is_whole, is_filtered)

    def overdue(self, now: float) -> list[Read]:
        """What to read beside, where looks are rare."""
        late = [number for number, place in enumerate(self._positions) if now - place.kept_alive > _OVERDUE]
        return [Read(position, is_whole=True, is_filtered=True) for position in late]

    def near(self, position: int) -> tuple[Contact, ...]:
        """The storers of that position, as far as they are remembered."""
        return self._positions[position].storers

    def some(self, position: int) -> list[Contact]:
        """Whom to ask without a lookup: 8 of the storers, by chance."""
        storers = self._positions[position].storers
        return self._rng.sample(storers, min(len(storers), _ASKED))

    def expects(self, position: int, contact: Contact) -> bool:
        """Whether the word was stored there before."""
        return contact.address in self._positions[position].keepers

    def answered(
        self, position: int, asked: Sequence[Contact], keepers: Collection[Contact], *, is_whole: bool
    ) -> None:
        """Of those near a position who answered, these keep the newest word, as far as can be told."""
        place = self._positions[position]
        if is_whole:
            place.storers = tuple(asked)
        place.keepers |= dict.fromkeys(contact.address for contact in keepers)
        while len(place.keepers) > _REMEMBERED:
            del place.keepers[next(iter(place.keepers))]
        networks, there = ({network_of(each.address) for each in group} for group in (keepers, asked))
        # Of those who were asked beside a lookup some may be silent: that counts as little as one that keeps nothing.
        expected = len(asked) if is_whole else min(len(place.storers), _ASKED)
        place.is_thin = len(keepers) * _FEW < expected or len(networks) < min(_NETWORKS, len(there))

    def must_repair(self, position: int, asked: int, keepers: int, now: float) -> bool:
        """Whether to write a position now, which so many of those keep who were found by a lookup and answered."""
        is_poor = keepers * 2 < asked
        is_due = now - self._positions[position].written >= _HOUR
        return is_poor and is_due and self._rng.random() < _REPAIR_CHANCE

    def wrote(self, position: int, now: float) -> None:
        """It was written."""
        self._positions[position].written = now

    def must_keep_alive(self, position: int, crowd: int | None, now: float) -> bool:
        """Whether to write a position, which was just looked up, for no other reason than that an hour is over."""
        place = self._positions[position]
        if now - place.kept_alive < _HOUR:
            return False
        place.kept_alive = now
        return self._rng.random() < max(_WRITERS / max(crowd or 1, 1), _LEAST_CHANCE)


class Pointer:
    """Reads and writes for one node."""

    name = "pointer"
    limits: Sequence[AddressLimits] = ()

    def __init__(self, dht: PointerStore, word: WordKeeper, around: Surroundings) -> None:
        self._dht = dht
        self._word = word
        self._around = around
        self._schedule = PointerSchedule(around.rng, around.clock())

    async def run(self, listener: Listener) -> None:
        """Read, repair and keep alive until cancelled."""
        clock, settings, started = self._around.clock, self._around.settings, self._around.clock()
        if settings.bootstrap:  # else there is nobody to ask, by the owner's own choice
            await self._read_first(listener)
        self._word.listened()
        while True:
            news = self._word.news.next
            pause = settings.pause_between_looks(clock() - started)
            # A word that somebody else told may be lacking in the DHT.
            await wait_at_most(news, jittered(pause, self._around.rng))
            await self._around.host.joined()
            late = [] if settings.metered else self._schedule.overdue(clock())
            for read in (self._schedule.next(clock()), *late):
                self._tell(listener, await self.read(read))

    async def _read_first(self, listener: Listener) -> None:
        """Read all four positions; who waits for them waits a minute, and a read that takes longer goes on."""

        async def read() -> None:
            await self._around.host.joined()
            self._tell(listener, await self.read_all())

        reading = asyncio.ensure_future(read())
        try:
            if not (await asyncio.wait({reading}, timeout=_TIMEOUT))[0]:
                _log.debug("the pointer was not read within a minute")
                self._word.listened()
            await reading
        finally:
            reading.cancel()

    def _tell(self, listener: Listener, is_answered: bool) -> None:
        if is_answered:
            listener.hear(Found(_NO_ADDRESSES, is_answer=True))

    async def look(self) -> Found:
        """Read all four positions, and tell no address."""
        await self._around.host.joined()
        await self.read_all()
        return Found(_NO_ADDRESSES)

    def address_changed(self) -> None:
        """Nothing of ours is in it."""

    def announce(self, info: PatchInfo | None) -> None:
        """What is served here is not for the owner to say."""

    def want(self, releases: Collection[PatchInfo] | None) -> None:
        """The owner is heard whatever is wanted."""

    async def read_all(self) -> bool:
        """Look up all four positions; whether anybody answered."""
        return any(await asyncio.gather(*(self.read(Read(position, True, False)) for position in range(POSITIONS))))

    async def read(self, read: Read) -> bool:
        """Read one position, tell what was found, and write it where it is behind or its hour is over.

        Returns:
            Whether anybody answered.
        """
        position, salt, schedule = read.position, pointer_salt(self._word.target, read.position), self._schedule
        # Whoever has not heard the word whole of late is not content with "the same".
        known = self._word.seq if read.is_filtered and self._word.is_heard else None
        near, found = schedule.near(position), None
        answers: Sequence[ItemAnswer]
        try:
            async with asyncio.timeout(_TIMEOUT):
                if read.is_whole:
                    found = await self._dht.find_item(self._word.owner, salt, known=known, near=near)
                    answers = found.nearest
                else:
                    answers = await self._dht.ask_storers(schedule.some(position), self._word.owner, salt, known=known)
        except (PatcherError, OSError, TimeoutError) as error:
            _log.debug("position %d of the pointer was not read: %s", position, error)
            answers = ()
        keepers = await self._hear([*answers, *(found.others if found is not None else ())], position)
        if self._word.current is None:
            return bool(answers)
        asked = [answer.contact for answer in answers]
        keeping = keepers.intersection(asked)
        schedule.answered(position, asked, keeping, is_whole=read.is_whole)
        now = self._around.clock()
        if self._around.settings.metered or found is None:
            return bool(answers)
        if schedule.must_keep_alive(position, self._around.crowd(), now) or schedule.must_repair(
            position, len(asked), len(keeping), now
        ):
            await self._write(position, found)
        return bool(answers)

    async def _hear(self, answers: Sequence[ItemAnswer], position: int) -> set[Contact]:
        """Tell the whole items, the highest seq first; who keeps the newest word that is known then."""
        told: list[ItemAnswer] = []
        for answer in sorted(answers, key=lambda each: each.seq or 0, reverse=True):
            address = answer.contact.address
            if answer.item is not None:
                # A signature or two each: others shall have a turn in between.
                await asyncio.sleep(0)
                if await self._word.hear(answer.item, address) is not Heard.FORGED:
                    told.append(answer)
            elif answer.seq is not None:
                told.append(answer)
            elif self._schedule.expects(position, answer.contact) and not is_lan(address):
                self._word.miss(address)
        return {answer.contact for answer in told if answer.seq == self._word.seq}

    async def _write(self, position: int, at: ItemLookup | None = None) -> None:
        word: Manifest | None = self._word.current
        item = None if word is None else word.item(position)
        if item is None:
            return
        self._schedule.wrote(position, self._around.clock())
        try:
            async with asyncio.timeout(_TIMEOUT):
                stored = await self._dht.put_mutable(item, at)
        except (PatcherError, OSError, TimeoutError) as error:
            _log.debug("position %d of the pointer was not written: %s", position, error)
            return
        _log.debug("position %d of the pointer is kept by %d nodes", position, stored)


def pointer_source(around: Surroundings) -> Pointer | None:
    """Where somebody keeps the owner's word: in no namespace of the Rust program's."""
    return None if around.word is None else Pointer(around.host.dht, around.word, around)
