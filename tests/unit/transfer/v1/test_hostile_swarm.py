"""What one peer of several does so that a download hangs, ends, or blames others; and what must not look like that."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TypeVar

import pytest

from pypatcher.artifact.chunks import PARAMETERS
from pypatcher.artifact.old_chunks import OldChunks
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.transfer.download import Arrival
from pypatcher.transfer.stall import StallRule, StallWatch
from pypatcher.transfer.v1.answers import ABSENT, encode_nodes
from pypatcher.transfer.v1.filling import Filling
from pypatcher.transfer.v1.messages import Hello, Kind, TreeRequest
from pypatcher.transfer.v1.part_held import PartHeld
from pypatcher.transfer.v1.picker import Asked, Picker
from pypatcher.transfer.v1.session import SessionV1
from tests.support.node_fakes import EventLog, run_alone
from tests.support.swarm_fleet import SwarmDevice, SwarmFleet
from tests.support.v1_nodes import Liar, Speaker, open_liar, open_speaker
from tests.unit.transfer.v1.test_changed import Scene
from tests.unit.transfer.v1.test_plan import OLD, plan_for
from tests.unit.transfer.v1.test_swarm import DEVICE, HOLDERS, LIAR, RATE, SIZE, honest

_T = TypeVar("_T")


async def with_liar(
    folder: Path, prepare: Callable[[SwarmFleet, Liar], None], *seeds: int, seconds: float = 300.0
) -> tuple[SwarmDevice, Liar]:
    """A device that fetches from a liar, and from seeds with these rates."""
    async with SwarmFleet(folder, SIZE) as fleet:
        liar = Liar(await fleet.network.endpoint(LIAR), Hello(held=(fleet.info,)))
        honest(fleet, liar)
        for address, rate in zip(HOLDERS, seeds, strict=False):
            await fleet.seed(address, rate)
        fleet.tell(liar.endpoint.node_id, LIAR)
        prepare(fleet, liar)
        device = await fleet.device(DEVICE)
        device.speaker.exchange.swarms._rng = LastOne()
        await fleet.all_have_it(seconds)
        return device, liar


class LastOne(random.Random):
    """Chooses who came last."""

    def choice(self, seq: Sequence[_T]) -> _T:  # type: ignore[override]
        return seq[-1]


def no_tree(_fleet: SwarmFleet, liar: Liar) -> None:
    """It has the file and cannot cut it."""
    liar.answers[Kind.TREE] = lambda payload: (
        b"\0" + encode_nodes([ABSENT] * (len(TreeRequest.decode(payload).nodes) or 1))
    )


def test_who_has_no_place_for_the_tree_is_asked_again_soon(tmp_path: Path) -> None:
    def busy_twice(_fleet: SwarmFleet, liar: Liar) -> None:
        tree = liar.answers[Kind.TREE]
        assert callable(tree)
        liar.answers[Kind.TREE] = lambda payload: b"\3" if liar.asked.count(Kind.TREE) < 3 else tree(payload)

    device, liar = run_alone(with_liar(tmp_path, busy_twice))
    assert liar.asked.count(Kind.TREE) >= 3
    assert device.done_at < 6.0


def test_who_cannot_cut_so_large_a_file_is_not_to_blame(tmp_path: Path) -> None:
    device, liar = run_alone(with_liar(tmp_path, no_tree, RATE))
    assert Kind.TREE in liar.asked
    assert device.gave[LIAR] > SIZE // 2
    assert "fetch.failed" not in device.events.names()


def test_who_is_dialed_in_vain_keeps_nobody_from_the_whole(tmp_path: Path) -> None:
    """Nobody there has the tree, and ever more that might have it are never reached."""

    @asynccontextmanager
    async def nobody() -> AsyncIterator[SessionV1]:
        await asyncio.sleep(3600)
        yield  # type: ignore[misc]

    tasks: list[asyncio.Task[None]] = []

    def dials(fleet: SwarmFleet, liar: Liar) -> None:
        no_tree(fleet, liar)
        told = liar.answers[Kind.TREE]
        assert callable(told)

        def tell(payload: bytes) -> bytes:
            tasks.append(asyncio.create_task(fleet.devices[0].speaker.exchange.swarms.help(fleet.info, nobody)))
            return told(payload)

        liar.answers[Kind.TREE] = tell

    device, _ = run_alone(with_liar(tmp_path, dials, seconds=60.0))
    assert tasks
    assert device.done_at < 50.0


def test_a_fetch_from_who_has_nothing_comes_to_an_end(tmp_path: Path) -> None:
    """It says that it fetches the same, and stays; whoever waits for the end of the fetch waited for ever."""

    async def body() -> SwarmDevice:
        async with SwarmFleet(tmp_path, SIZE) as fleet:
            liar = Liar(await fleet.network.endpoint(LIAR), Hello(fetching=fleet.info))
            fleet.tell(liar.endpoint.node_id, LIAR)
            device = await fleet.device(DEVICE)
            running = asyncio.create_task(device.run())
            await asyncio.sleep(5.0)
            settled = asyncio.create_task(device.updater.settled())
            await asyncio.sleep(60.0)
            assert not settled.done()
            async with asyncio.timeout(150.0):
                await settled
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            return device

    assert not run_alone(body()).done.is_set()


def test_a_peer_that_gives_is_not_dialed_by_another_address(tmp_path: Path) -> None:
    async def body() -> None:
        async with SwarmFleet(tmp_path, SIZE) as fleet:
            await fleet.seed(HOLDERS[0], RATE)
            device = await fleet.device(DEVICE)
            running = asyncio.create_task(device.run())
            await asyncio.sleep(5.0)
            with pytest.raises(PeerBusyError):
                await device.help(fleet.told[HOLDERS[0]])
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run_alone(body())


def test_who_was_slower_at_the_end_wasted_nothing(tmp_path: Path) -> None:
    device, _ = run_alone(with_liar(tmp_path, lambda *_: None, RATE // 4, RATE // 2))
    assert device.wasted == 0
    assert device.came > SIZE


async def test_what_waits_for_the_disk_as_others_are_quicker_is_no_waste(tmp_path: Path) -> None:
    """Else who then goes away, or is busy, has failed as if it had lied."""
    plan = plan_for(random.Random(2).randbytes(300_000), tmp_path)
    data, goes_on = (tmp_path / "new").read_bytes(), threading.Event()
    picker = Picker(plan, bytes(32), random.Random(1), 0.0)
    picker.hear(b"a peer", 0.0, is_near=False, parts=None, is_fetching=False)
    asked = picker.next(b"a peer", 0.0)
    assert asked is not None

    async def pieces(*_: object) -> AsyncIterator[list[tuple[int, bytes]]]:
        yield [(run.offset, data[run.offset : run.offset + run.size]) for run in asked.runs]

    member = SimpleNamespace(good=0, pieces=pieces, watch=StallWatch(StallRule(), time.monotonic))
    held = SimpleNamespace(plan=plan, info=None)
    disk = SimpleNamespace(write_part=lambda *_: goes_on.wait(10), sync=lambda: None)
    filling = Filling(held, picker, disk, (OldChunks(PARAMETERS[1]), ()), lambda: None)  # type: ignore[arg-type]
    taking = asyncio.create_task(filling.take(member, asked, 1))  # type: ignore[arg-type]
    await asyncio.sleep(0.1)
    (task,) = filling._taking.values()
    task.cancel()
    goes_on.set()
    await taking
    assert member.good == asked.size


class Stuck:
    """A fetch by two peers whose disk does not go on."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.goes_on = threading.Event()
        self.waits = threading.Event()
        self.is_over = False

    @asynccontextmanager
    async def fetching(self, taker: Speaker, *givers: Speaker | Liar) -> AsyncIterator[list[asyncio.Task[object]]]:
        first, *others = [
            Candidate(self.scene.info, each.endpoint.node_id, each.address, "a test", speaks_v1=True) for each in givers
        ]
        with self.scene.download() as there:
            write = there.write_part

            def write_part(data: bytes, offset: int) -> None:
                self.waits.set()
                self.goes_on.wait(20)
                write(data, offset)

            there.write_part = write_part  # type: ignore[method-assign]
            arrival = Arrival(there, EventLog(), "2.0.0", "a peer")
            tasks: list[asyncio.Task[object]] = [asyncio.create_task(taker.exchange.fetch(first, arrival))]
            while not taker.exchange.swarms.is_fetching(self.scene.info):
                await asyncio.sleep(0.01)
            tasks += [asyncio.create_task(taker.exchange.help(each)) for each in others]
            await asyncio.to_thread(self.waits.wait, 10)
            try:
                yield tasks
            finally:
                self.goes_on.set()
                await asyncio.wait(tasks, timeout=10)


async def test_a_fetch_ends_though_a_peer_fails_as_it_is_cancelled(tmp_path: Path) -> None:
    """Its writes wait for a slow disk; who was cancelled meanwhile never left, and the end waited for that for ever."""
    scene = Scene(tmp_path, old=None)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        async with open_liar(Hello(fetching=scene.info)) as liar:
            stuck = Stuck(scene)
            async with stuck.fetching(taker, liar, holder) as tasks:
                (swarm,) = taker.exchange.swarms._under_way.values()
                for member in swarm.members.there:
                    if member.session.connection.peer_id == holder.endpoint.node_id:
                        member.fail(PeerError("it lied"))
                await asyncio.sleep(0.1)
                for task in tasks:
                    task.cancel()
                await asyncio.sleep(0.1)
            assert all(task.done() for task in tasks)


async def test_a_fetch_ends_though_all_tasks_are_cancelled_at_once(tmp_path: Path) -> None:
    """As ``asyncio.run`` does at its end: while a peer's writes were waited for, that peer never left."""
    scene = Scene(tmp_path, old=None)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        before = asyncio.all_tasks()
        stuck = Stuck(scene)
        async with stuck.fetching(taker, holder) as (task,):
            (swarm,) = taker.exchange.swarms._under_way.values()
            (member,) = swarm.members.there
            member.fail(PeerError("it lied"))
            await asyncio.sleep(0.1)
            for each in asyncio.all_tasks() - before:
                each.cancel()
        assert task.done()


async def test_nobody_writes_any_more_when_a_fetch_has_ended(tmp_path: Path) -> None:
    """Cancelled twice, as by the owner's word and then by the node's stop: the file is closed next."""
    scene = Scene(tmp_path, old=None)
    async with open_speaker(scene.word()) as holder, open_speaker(scene.word()) as taker:
        scene.hold(holder)
        stuck = Stuck(scene)
        async with stuck.fetching(taker, holder) as (task,):
            for _ in range(3):
                task.cancel()
                await asyncio.sleep(0.1)
            assert not task.done()
        assert task.cancelled()


def test_what_is_held_in_parts_is_closed_with_its_node(tmp_path: Path) -> None:
    """Its loop ends, and with it the timer that would have closed it."""
    plan = plan_for(OLD, tmp_path)
    descriptor = os.open(tmp_path / "new", os.O_RDONLY)
    held = PartHeld(Scene(tmp_path).info, bytes(16), {}, plan, descriptor)
    del held
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_what_strangers_say_wakes_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """40 who are asked for nothing say each second that they fetch, or do not: that cost a look at all parts each."""
    looks = 0
    look = Picker.next

    def counted(picker: Picker, peer: bytes, now: float) -> Asked | None:
        nonlocal looks
        looks += 1
        return look(picker, peer, now)

    monkeypatch.setattr(Picker, "next", counted)

    async def body() -> None:
        async with SwarmFleet(tmp_path, SIZE) as fleet:
            await fleet.seed(HOLDERS[0], RATE)
            idle = Liar(await fleet.network.endpoint(LIAR), Hello(fetching=fleet.info))
            fleet.tell(idle.endpoint.node_id, LIAR)
            device = await fleet.device(DEVICE)
            running = asyncio.create_task(device.run())
            await asyncio.sleep(3.0)
            (swarm,) = device.speaker.exchange.swarms._under_way.values()
            member, _ = swarm.members.there
            before = looks
            for _ in range(200):
                other = SessionV1(member.session.connection, device.speaker.exchange)
                other.hello = Hello(fetching=fleet.info)
                swarm.hear(other)
                await asyncio.sleep(0.001)
            assert looks - before < 50
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    run_alone(body())
