"""Slots are looked at while somebody here takes releases, and written anew when a record is not true any more."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from types import SimpleNamespace

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery import HeardRecord, Published
from pypatcher.discovery.sources import Found, Surroundings
from pypatcher.discovery.sources.slots import RECORDS, SlotSource
from pypatcher.errors import VersionError
from pypatcher.settings import Settings
from tests.support.discovery import node, release
from tests.support.node_fakes import run_alone

NEW = release("2.0.0")
HERE, THERE = ("203.0.113.1", 1), ("203.0.113.2", 1)


class NotedSlots:
    """Slots in which one node is heard, the place of the node that looks at them, and whoever listens to it."""

    def __init__(self) -> None:
        self.own: tuple[Address, ...] = (HERE,)
        self.looks: list[float] = []
        self.published: list[tuple[float, tuple[Address, ...]]] = []
        self.told: list[Found] = []
        self.error: Exception | None = None
        self.word: object = None

    async def joined(self) -> None: ...

    def own_addresses(self) -> tuple[Address, ...]:
        return self.own

    def heed(self, releases: object) -> None:
        """Nothing is published here."""

    async def look(self) -> list[HeardRecord]:
        self.looks.append(asyncio.get_running_loop().time())
        await asyncio.sleep(2)
        return [HeardRecord(NEW, node(1).public, (THERE,), 7)]

    async def publish(self, _info: PatchInfo, addresses: Iterable[Address]) -> Published:
        if self.error is not None:
            raise self.error
        self.published.append((asyncio.get_running_loop().time(), tuple(addresses)))
        return Published(7, 5)

    def hear(self, found: Found) -> None:
        self.told.append(found)

    def run(self, seconds: float, *steps: tuple[float, Callable[[SlotSource], None]]) -> None:
        """Run the source for some virtual seconds; each step is taken at its second."""

        async def body() -> None:
            loop = asyncio.get_running_loop()
            around = Surroundings(
                self,  # type: ignore[arg-type]
                Settings(),
                lambda _: None,
                random.Random(1),
                loop.time,
                self.word,  # type: ignore[arg-type]
            )
            source = SlotSource(self, around)  # type: ignore[arg-type]
            running = asyncio.create_task(source.run(self))
            for second, step in steps:
                await asyncio.sleep(second - loop.time())
                step(source)
            await asyncio.sleep(seconds - loop.time())
            running.cancel()

        run_alone(body())


def test_nothing_is_looked_for_where_nothing_is_taken() -> None:
    slots = NotedSlots()
    slots.run(3600)
    assert slots.looks == []


def test_it_looks_from_the_first_want_until_nothing_is_wanted() -> None:
    slots = NotedSlots()
    slots.run(3600, (100, lambda source: source.want(())), (190, lambda source: source.want(None)))
    assert slots.looks[0] == 100
    assert [int(look) // 100 for look in slots.looks] == [1, 1]


def test_who_wants_again_looks_as_often_as_one_that_has_just_begun() -> None:
    slots = NotedSlots()
    slots.run(
        8000,
        (0, lambda source: source.want(())),
        (6000, lambda source: source.want(None)),
        (7000, lambda source: source.want(())),
    )
    assert len([look for look in slots.looks if 7000 <= look < 7600]) >= 9


def test_who_hears_the_owner_looks_hourly_until_something_is_wanted() -> None:
    slots = NotedSlots()
    slots.word = SimpleNamespace(current="a word")
    slots.run(
        20_000,
        (0, lambda source: source.want(())),
        (12_000, lambda source: source.want((NEW,))),
        (14_000, lambda source: source.want(())),
    )
    assert len([look for look in slots.looks if look < 12_000]) == 4
    assert len([look for look in slots.looks if 12_000 <= look < 14_000]) >= 6
    assert len([look for look in slots.looks if look >= 14_600]) <= 3


def test_what_a_look_found_is_told_with_the_budget_of_records() -> None:
    slots = NotedSlots()
    slots.run(10, (0, lambda source: source.want(())))
    (found,) = slots.told
    assert found.limits is RECORDS
    assert found.is_look
    assert [(each.info, each.address, each.source) for each in found.candidates] == [(NEW, THERE, "slot of minute 7")]


def test_a_record_is_written_anew_only_if_our_address_changed() -> None:
    slots = NotedSlots()

    def move(source: SlotSource) -> None:
        slots.own = (THERE,)
        source.address_changed()

    slots.run(
        30,
        (0, lambda source: source.announce(NEW)),
        (10, lambda source: source.address_changed()),
        (20, move),
    )
    assert slots.published == [(0, (HERE,)), (20, (THERE,))]


def test_a_release_that_cannot_be_published_keeps_it_from_no_look() -> None:
    slots = NotedSlots()
    slots.error = VersionError("too large to be announced")
    slots.run(600, (0, lambda source: source.announce(NEW)), (1, lambda source: source.want(())))
    assert slots.published == []
    assert len(slots.looks) >= 9
