"""The publisher says what is held, at once and again, and is silent when others say it better."""

from __future__ import annotations

import asyncio
import itertools
import random

from pypatcher.artifact import PatchInfo
from pypatcher.discovery import Published
from pypatcher.discovery.publisher import Publisher
from tests.support.discovery import release
from tests.support.node_fakes import EventLog, run_alone

OLD, NEW = release("1.0.0"), release("2.0.0")


class Slot:
    """Answers every publication alike, and notes when each came."""

    def __init__(self, *, stored: int = 5, full: bool = False, newer: bool = False) -> None:
        self.answer = Published(7, stored, full, newer)
        self.calls: list[tuple[float, PatchInfo]] = []

    async def publish(self, info: PatchInfo) -> Published:
        self.calls.append((asyncio.get_running_loop().time(), info))
        return self.answer

    def pauses(self) -> list[float]:
        times = [time for time, _ in self.calls]
        return [later - earlier for earlier, later in itertools.pairwise(times)]


async def publish(
    slot: Slot, seconds: float, info: PatchInfo | None = OLD, interval: float = 55.0, rest: float = 0.0
) -> EventLog:
    """Publish for some virtual seconds."""
    heard = EventLog()
    publisher = Publisher(slot.publish, interval=interval, emit=heard, rng=random.Random(1), rest=lambda _: rest)
    publisher.announce(info)
    try:
        async with asyncio.timeout(seconds):
            await publisher.run()
    except TimeoutError:
        return heard


def test_publishes_at_once_and_about_every_55_seconds() -> None:
    slot = Slot()
    heard = run_alone(publish(slot, 3600))
    assert slot.calls[0] == (0.0, OLD)
    assert 60 <= len(slot.calls) <= 72
    assert all(49 <= pause <= 61 for pause in slot.pauses())
    assert len(set(slot.pauses())) > 50
    assert heard.names() == ["record.published"] * len(slot.calls)


def test_nothing_held_is_nothing_said() -> None:
    slot = Slot()
    run_alone(publish(slot, 3600, info=None))
    assert slot.calls == []


def test_a_new_release_is_said_at_once() -> None:
    slot = Slot()

    async def body() -> None:
        publisher = Publisher(slot.publish, interval=55.0, emit=EventLog(), rng=random.Random(1))
        publisher.announce(OLD)
        task = asyncio.create_task(publisher.run())
        await asyncio.sleep(10)
        publisher.announce(NEW)
        await asyncio.sleep(1)
        publisher.announce(None)
        await asyncio.sleep(1000)
        task.cancel()

    run_alone(body())
    assert slot.calls == [(0.0, OLD), (10.0, NEW)]


def test_a_publication_ends_well_though_nothing_is_held_by_then() -> None:
    heard = EventLog()

    async def body() -> None:
        publisher = Publisher(publish_slowly, interval=55.0, emit=heard, rng=random.Random(1))
        publisher.announce(OLD)

        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(publisher.run())
            await asyncio.sleep(1)
            publisher.announce(None)
            await asyncio.sleep(1000)
            task.cancel()

    async def publish_slowly(_info: PatchInfo) -> Published:
        await asyncio.sleep(2)
        return Published(7, 5)

    run_alone(body())
    assert [event.version for event in heard] == ["1.0.0"]


def test_a_full_slot_doubles_the_pause_up_to_an_hour() -> None:
    slot = Slot(stored=0, full=True)
    heard = run_alone(publish(slot, 12 * 3600))
    pauses = slot.pauses()
    assert 99 <= pauses[0] <= 121
    assert 1.6 <= pauses[1] / pauses[0] <= 2.4
    assert all(3240 <= pause <= 3960 for pause in pauses[6:])
    assert heard == []


def test_a_record_in_a_full_slot_is_said_and_the_pause_still_grows() -> None:
    slot = Slot(stored=3, full=True)
    heard = run_alone(publish(slot, 12 * 3600))
    assert len(slot.calls) < 20
    assert len(heard) == len(slot.calls)


def test_who_sees_a_newer_release_grows_silent_the_same_way() -> None:
    slot = Slot(stored=0, newer=True)
    run_alone(publish(slot, 12 * 3600))
    assert len(slot.calls) < 20


def test_a_publication_that_reaches_nobody_is_tried_again_soon() -> None:
    slot = Slot(stored=0)
    heard = run_alone(publish(slot, 1200))
    pauses = slot.pauses()
    assert 1.8 <= pauses[0] <= 2.2
    assert 3.6 <= pauses[1] <= 4.4
    assert all(49 <= pause <= 61 for pause in pauses[5:])
    assert heard == []


def test_who_rests_has_reached_somebody_before() -> None:
    for slot, least in ((Slot(), 6480), (Slot(stored=0, full=True), 6480), (Slot(stored=0), 1)):
        run_alone(publish(slot, 86400, rest=7200.0))
        assert min(slot.pauses()) >= least
        assert (max(slot.pauses()) <= 61) == (slot.answer.stored == 0 and not slot.answer.full)


def test_success_starts_the_pauses_over() -> None:
    slot = Slot(stored=0, full=True)

    async def body() -> None:
        publisher = Publisher(slot.publish, interval=55.0, emit=EventLog(), rng=random.Random(1))
        publisher.announce(OLD)
        task = asyncio.create_task(publisher.run())
        await asyncio.sleep(1000)
        slot.answer = Published(8, 3)
        await asyncio.sleep(3600)
        slot.answer = Published(9, 0, full=True)
        slot.calls.clear()
        await asyncio.sleep(300)
        task.cancel()

    run_alone(body())
    assert 99 <= slot.pauses()[0] <= 121
