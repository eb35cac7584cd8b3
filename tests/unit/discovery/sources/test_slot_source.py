"""Slots are looked at while somebody here takes releases, and written anew when a record is not true any more."""

from __future__ import annotations

import asyncio
import itertools
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
        self.short = 0
        self.published: list[tuple[float, tuple[Address, ...]]] = []
        self.told: list[Found] = []
        self.error: Exception | None = None
        self.word: object = None
        self.namespace = SimpleNamespace(meets=True)
        self.settings = Settings()
        self.may_rest = True

    async def joined(self) -> None: ...

    def own_addresses(self) -> tuple[Address, ...]:
        return self.own

    def heed(self, releases: object) -> None:
        """Nothing is published here."""

    async def look(self, *, is_short: bool = False) -> list[HeardRecord]:
        self.looks.append(asyncio.get_running_loop().time())
        self.short += is_short
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
                self.settings,
                lambda _: None,
                random.Random(1),
                loop.time,
                self.word,  # type: ignore[arg-type]
                may_rest=self.may_rest,
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
    slots.word = SimpleNamespace(is_heard=True)
    slots.run(
        20_000,
        (0, lambda source: source.want(())),
        (12_000, lambda source: source.want((NEW,))),
        (14_000, lambda source: source.want(())),
    )
    assert len([look for look in slots.looks if look < 12_000]) == 4
    assert len([look for look in slots.looks if 12_000 <= look < 14_000]) >= 6
    assert len([look for look in slots.looks if look >= 14_600]) <= 3
    assert slots.short == len([look for look in slots.looks if not 12_000 <= look < 14_000]) - 1


def published_at_rest(
    *steps: tuple[float, Callable[[SlotSource], None]],
    is_heard: bool = True,
    has_word: bool = True,
    may_rest: bool = True,
    meets: bool = True,
) -> list[float]:
    """The pauses between records of the last 12 of 13 hours."""
    slots = NotedSlots()
    slots.may_rest = may_rest
    slots.namespace.meets = meets
    slots.word = SimpleNamespace(is_heard=is_heard, current=object()) if has_word else None
    slots.run(13 * 3600, (0, lambda source: source.announce(NEW)), *steps)
    times = [time for time, _ in slots.published if time > 3600]
    return [later - time for time, later in itertools.pairwise(times)]


def test_who_hears_the_owner_and_lacks_nothing_publishes_rarely() -> None:
    slots = NotedSlots()
    slots.word = SimpleNamespace(is_heard=True)
    slots.run(7200, (0, lambda source: source.announce(NEW)), (1, lambda source: source.want(())))
    assert 10 <= len([time for time, _ in slots.published if time < 600]) <= 13
    assert len([time for time, _ in slots.published if time > 700]) <= 1
    assert min(published_at_rest((1, lambda source: source.want(())))) >= 6480


def test_who_never_had_the_owners_word_publishes_each_six_minutes() -> None:
    steps = [(1, lambda source: source.want(()))]
    pauses = published_at_rest(*steps, has_word=False)
    assert min(pauses) >= 270
    assert max(pauses) <= 400
    assert max(published_at_rest(*steps, has_word=False, may_rest=False)) <= 61
    assert max(published_at_rest(*steps, has_word=False, meets=False)) <= 61


def test_a_seed_and_who_hears_no_owner_publish_as_ever() -> None:
    assert max(published_at_rest((1, lambda source: source.want(())), is_heard=False)) <= 61
    assert max(published_at_rest((1, lambda source: source.want(())), may_rest=False)) <= 61
    assert max(published_at_rest((1, lambda source: source.want((release("3.0.0"),))))) <= 61


def test_a_metered_device_publishes_nothing_and_looks_seldom() -> None:
    slots = NotedSlots()
    slots.settings = Settings(metered=True)
    slots.run(
        200_000, (0, lambda source: source.announce(NEW)), (1, lambda source: source.want(())),
        (100_000, lambda source: source.want((NEW,))), (150_000, lambda source: source.want(())),
    )  # fmt: skip
    assert slots.published == []
    assert len([look for look in slots.looks if look < 100_000]) == 5
    assert slots.looks[5] == 100_000
    assert 20 <= len([look for look in slots.looks if 100_000 <= look < 150_000]) <= 40


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
