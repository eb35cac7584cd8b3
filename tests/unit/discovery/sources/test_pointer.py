"""The pointer: the owner's word is read, repaired and kept alive under four names; liars beside them achieve little."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from pypatcher.artifact.manifest import POSITIONS
from pypatcher.dht import Contact
from pypatcher.discovery.sources.pointer import PointerSchedule, Read
from pypatcher.node.silence import SilenceWatch
from pypatcher.settings import Settings
from tests.support.manifests import word
from tests.support.node_fakes import run_alone
from tests.support.pointer_lab import PointerLab, Says, forges_the_highest_seq, says_nothing, says_old

OLD, NEW = word("1.0.0"), word("2.0.0")
LOOK = 330.0
"""Seconds of one late look, jitter included."""


async def publish(lab: PointerLab) -> None:
    """The owner's machine writes all four positions."""
    owner = lab.device(NEW)
    for position in range(POSITIONS):
        item = NEW.item(position)
        assert item is not None
        await owner.node.put_mutable(item)


def run(body: Coroutine[Any, Any, None]) -> None:
    run_alone(body)


def test_who_knows_the_word_writes_it_and_others_read_it() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            first, other = lab.device(NEW), lab.device()
            first.start()
            other.start()
            assert await other.hears(NEW, 6 * LOOK) is not None
            await asyncio.sleep(12 * LOOK)
            assert min(lab.keepers(NEW)) >= 10
            assert len(other.word.contact.networks) >= 3

    run(body())


def test_each_read_that_is_answered_is_told_and_no_other() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            await publish(lab)
            device, clock = lab.device(NEW), asyncio.get_running_loop().time
            device.start()
            await asyncio.sleep(7200)
            late = [at for at in device.answered if at > clock() - 3600]
            assert len(late) >= 9
            assert all(after - before <= LOOK + 60 for before, after in itertools.pairwise(late))
            lab.net.hosts.clear()
            await asyncio.sleep(600)
            told = len(device.answered)
            await asyncio.sleep(3600)
            assert len(device.answered) == told

    run(body())


def test_a_first_read_that_takes_over_a_minute_goes_on() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            await publish(lab)
            device, clock = lab.device(), asyncio.get_running_loop().time
            begun = clock()

            async def joined() -> None:
                await asyncio.sleep(max(0.0, begun + 59.99 - clock()))

            device.host.joined = joined
            device.start()
            while not device.word.has_listened:
                await device.word.news.next.wait()
            assert clock() - begun <= 60.0
            assert device.word.current is None
            assert await device.hears(NEW, 20.0) is not None

    run(body())


def test_the_same_seq_is_no_word_of_the_owners() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            await publish(lab)
            device = lab.device(NEW)
            await device.pointer.read_all()
            heard = device.word.contact.heard
            assert heard is not None
            await asyncio.sleep(1000)
            for position in range(POSITIONS):
                await device.pointer.read(Read(position, is_whole=True, is_filtered=True))
                await device.pointer.read(Read(position, is_whole=False, is_filtered=True))
            assert device.word.contact.heard == heard
            await device.pointer.read(Read(0, is_whole=False, is_filtered=False))
            assert device.word.contact.heard > heard

    run(body())


def test_a_filtered_look_at_the_storers_costs_a_third_of_a_lookup() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            await publish(lab)
            device = lab.device(NEW)
            await device.pointer.read_all()
            assert device.word.is_heard
            address = lab.net.address_of(device.node)
            costs = []
            for read in (Read(1, is_whole=True, is_filtered=False), Read(1, is_whole=False, is_filtered=True)):
                before = lab.net.sent[address]
                await device.pointer.read(read)
                costs.append(lab.net.sent[address] - before)
            assert costs[1] == 5
            assert costs[0] >= 20

    run(body())


def test_a_metered_device_reads_every_6_hours_and_writes_nothing() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            await publish(lab)
            device = lab.device(OLD, settings=Settings(metered=True))
            device.start()
            await asyncio.sleep(120)
            assert device.word.current == NEW
            sent = lab.net.sent[lab.net.address_of(device.node)]
            lone = lab.device(word("3.0.0"), settings=Settings(metered=True))
            lone.start()
            await asyncio.sleep(3 * 86_400)
            assert lab.net.sent[lab.net.address_of(device.node)] - sent <= 12 * 40
            assert max(lab.keepers(word("3.0.0"))) == 0

    run(body())


def test_a_position_that_is_behind_is_written_by_who_sees_it() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            behind = lab.device(OLD)
            for position in range(POSITIONS):
                item = OLD.item(position)
                assert item is not None
                await behind.node.put_mutable(item)
            knows = lab.device(NEW, crowd=1)
            knows.start()
            await asyncio.sleep(20 * LOOK)
            assert min(lab.keepers(NEW)) >= 10

    run(body())


def test_what_is_gone_where_it_was_stored_is_noted() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            await publish(lab)
            device = lab.device(NEW)
            await device.pointer.read_all()
            assert not device.word.contact.missed
            lab.forget()
            await device.pointer.read_all()
            assert len(device.word.contact.missed) >= 10

    run(body())


@pytest.mark.parametrize(
    ("lie", "seed"),
    [("nothing", 1), ("the old word", 1), *(("the highest seq", seed) for seed in range(10))],
)
def test_liars_beside_every_name_do_not_freeze_a_device(lie: str, seed: int) -> None:
    said: dict[str, Says] = {
        "nothing": says_nothing,
        "the old word": says_old(OLD),
        "the highest seq": forges_the_highest_seq,
    }

    async def looks(is_attacked: bool) -> float:
        async with PointerLab(seed=100 * seed + 1) as lab:
            device = lab.device(OLD)
            device.start()
            await asyncio.sleep(LOOK)
            if is_attacked:
                lab.besiege(said[lie])
            await publish(lab)
            took = await device.hears(NEW, 20 * LOOK)
            assert took is not None
            return took

    async def body() -> None:
        calm, attacked = await looks(False), await looks(True)
        assert attacked <= 2 * calm + LOOK

    run(body())


def test_surrounded_by_liars_a_device_hears_nothing_and_says_so() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            device = lab.device(OLD)
            for position in range(POSITIONS):
                item = OLD.item(position)
                assert item is not None
                await device.node.put_mutable(item)
            device.start()
            await asyncio.sleep(LOOK)
            heard = device.word.contact.heard
            lab.surround(forges_the_highest_seq)
            await publish(lab)
            assert await device.hears(NEW, 40 * LOOK) is None
            assert device.word.current == OLD
            assert device.word.contact.heard == heard
            assert len(device.word.contact.forged) >= 3
            watch = SilenceWatch(device.word, 0.0, longest=20 * LOOK)
            said = "; ".join(watch.reasons(None, asyncio.get_running_loop().time()))
            assert "the owner's manifest was heard of nobody" in said
            assert "somebody is in the way" in said

    run(body())


def test_the_old_word_moves_nothing() -> None:
    async def body() -> None:
        async with PointerLab() as lab:
            device = lab.device(NEW)
            lab.surround(says_old(OLD))
            device.start()
            await asyncio.sleep(20 * LOOK)
            assert device.word.current == NEW
            assert not device.word.contact.forged

    run(body())


def test_a_lookup_comes_at_every_fourth_look_of_a_position() -> None:
    schedule = PointerSchedule(random.Random(1), 0.0)
    storers = [Contact(bytes([n]) * 20, (f"{n + 1}.0.0.1", 1)) for n in range(20)]
    for position in range(POSITIONS):
        schedule.answered(position, storers, storers, is_whole=True)
    reads = [schedule.next(0.0) for _ in range(400)]
    assert sum(read.is_whole for read in reads) == pytest.approx(100, abs=4)
    assert {read.position for read in reads} == set(range(POSITIONS))
    assert all(read.is_filtered for read in reads)
    assert not schedule.next(6 * 3600.0).is_filtered
    assert schedule.next(6 * 3600.0).is_filtered


@pytest.mark.parametrize(("keepers", "is_whole"), [(20, False), (6, False), (4, True), (0, True)])
def test_few_keepers_make_the_next_look_a_lookup(keepers: int, is_whole: bool) -> None:
    schedule = PointerSchedule(random.Random(1), 0.0)
    storers = [Contact(bytes([n]) * 20, (f"{n + 1}.0.0.1", 1)) for n in range(20)]
    for position in range(POSITIONS):
        schedule.answered(position, storers, storers[:keepers], is_whole=True)
    assert schedule.next(0.0).is_whole is is_whole


def test_about_eight_of_a_fleet_write_in_an_hour_whatever_its_size() -> None:
    for size in (1, 8, 100, 1000):
        fleet = [PointerSchedule(random.Random(n), 0.0) for n in range(size)]
        for now, expected in ((3599.0, 0), (3600.0, POSITIONS * min(size, 8)), (3601.0, 0)):
            writes = sum(each.must_keep_alive(position, size, now) for each in fleet for position in range(POSITIONS))
            assert writes == pytest.approx(expected, rel=0.6)


def test_a_lone_device_writes_every_position_well_within_two_hours() -> None:
    for look in (300.0, 3600.0):
        schedule, written = PointerSchedule(random.Random(1), 0.0), dict.fromkeys(range(POSITIONS), 0.0)
        storers = [Contact(bytes([n]) * 20, (f"{n + 1}.0.0.1", 1)) for n in range(20)]
        for number in range(1, 400):
            now = number * look
            for read in (schedule.next(now), *schedule.overdue(now)):
                schedule.answered(read.position, storers, storers, is_whole=read.is_whole)
                if read.is_whole and schedule.must_keep_alive(read.position, 1, now):
                    written[read.position] = now
            assert now - min(written.values()) <= 7200.0
