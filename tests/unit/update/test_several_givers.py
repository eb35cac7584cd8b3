"""More peers help with a fetch that several can give: how many, whose failure costs what, and who is asked again."""

from __future__ import annotations

import asyncio

from pypatcher.addresses import Address
from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import PeerBusyError, PeerError
from pypatcher.nat.ways import EveryWay
from pypatcher.transfer.exchange import NobodyLeftError, Sink
from tests.support.node_fakes import run_alone
from tests.support.updater_world import NEW, SIZE, UpdaterWorld

SECONDS = 20.0


def fetch_of_several(
    world: UpdaterWorld, first: PeerError | None = None, end: Exception | None = None, gave: int = 0
) -> None:
    """The fetch goes on for some seconds, whatever becomes of the first peer."""

    async def fetch(candidate: Candidate, sink: Sink) -> PatchInfo:
        world.asked.append((asyncio.get_running_loop().time(), candidate.address[0]))
        world.sink = sink
        if world.census is not None:
            world.census.news.tell()
        sink.received(1, SIZE)
        if first is not None:
            await asyncio.sleep(1.0)
            sink.peer_ended(candidate.address, 100, first, 100)
        await asyncio.sleep(SECONDS)
        world.sink = None
        if end is not None:
            raise end
        if gave:
            sink.peer_ended(candidate.address, gave, None, 0)
        sink.received(SIZE, SIZE)
        return NEW

    world.fetch, world.ways = fetch, EveryWay(stranger_jitter=0.0)


async def gives(candidate: Candidate, sink: Sink) -> None:
    await asyncio.sleep(5.0)
    sink.peer_ended(candidate.address, 1000, None, 0)


async def lies(candidate: Candidate, sink: Sink) -> None:
    await asyncio.sleep(1.0)
    sink.peer_ended(candidate.address, 1000, PeerError("other bytes"), 900)


def two_strangers(world: UpdaterWorld) -> None:
    for host in ("20.1.0.1", "20.2.0.1"):
        world.peer(host)


def good_ones(world: UpdaterWorld) -> list[bool]:
    """Whether the first that was asked, and the second, is a good peer now; the release is here."""
    run_alone(world.run(SECONDS + 10))
    assert world.staged == [NEW]
    return [address_of(host) in world.budget.good for host in world.hosts()[:2]]


def address_of(host: str) -> Address:
    return host, 1


def test_others_help_at_once_six_of_strangers_in_all(world: UpdaterWorld) -> None:
    for number in range(20):
        world.peer(f"20.{number}.0.1")
    world.helps = gives
    fetch_of_several(world)
    run_alone(world.run(100))
    early = [host for when, host in world.asked if when < world.asked[0][0] + 2.0]
    assert len(set(early)) == 6
    assert world.staged == [NEW]


def test_in_a_lan_sixteen_help(world: UpdaterWorld) -> None:
    for number in range(20):
        world.peer(f"10.0.0.{number}")
    world.helps = gives
    fetch_of_several(world)
    run_alone(world.run(100))
    assert len({host for when, host in world.asked if when < world.asked[0][0] + 2.0}) == 16


def test_a_helper_that_lies_pauses_and_the_fetch_goes_on(world: UpdaterWorld) -> None:
    two_strangers(world)
    world.helps = lies
    fetch_of_several(world)
    run_alone(world.run(SECONDS + 10))
    liar = world.hosts()[1]
    assert world.hosts().count(liar) == 1
    assert world.staged == [NEW]
    failed = next(event for event in world.heard if event.name == "fetch.failed")
    assert (failed.peer, failed.wasted) == (f"{liar}:1", 900)  # type: ignore[attr-defined]


def test_the_first_that_failed_is_no_good_peer_afterwards(world: UpdaterWorld) -> None:
    two_strangers(world)
    world.helps = gives
    fetch_of_several(world, PeerError("it stalled"))
    assert good_ones(world) == [False, True]


def test_a_helper_without_a_place_is_asked_again_soon(world: UpdaterWorld) -> None:
    two_strangers(world)

    async def busy(candidate: Candidate, _sink: Sink) -> None:
        raise PeerBusyError("it serves others")

    world.helps = busy
    fetch_of_several(world)
    run_alone(world.run(SECONDS + 15))
    assert world.staged == [NEW]
    assert world.heard.names().count("fetch.failed") == 0


def test_where_all_failed_nobody_is_blamed_twice(world: UpdaterWorld) -> None:
    world.peer("20.1.0.1")
    fetch_of_several(world, PeerError("it stalled"), NobodyLeftError("it stalled"))
    run_alone(world.run(SECONDS + 5))
    assert [event.wasted for event in world.heard if event.name == "fetch.failed"] == [100, 100]  # type: ignore[attr-defined]


def test_a_few_bytes_make_no_good_peer(world: UpdaterWorld) -> None:
    """Else who lied gives one chunk now and then, and what was counted against it is forgotten."""
    two_strangers(world)

    async def gives_little(candidate: Candidate, sink: Sink) -> None:
        await asyncio.sleep(1.0)
        sink.peer_ended(candidate.address, 50_050, None, 50_000)

    world.helps = gives_little
    fetch_of_several(world, gave=100_000)
    assert good_ones(world) == [True, False]


def test_who_lies_long_after_our_address_changed_is_to_blame(world: UpdaterWorld) -> None:
    two_strangers(world)
    world.helps = lies
    fetch_of_several(world)
    fetch = world.fetch
    assert fetch is not None

    async def moved_first(candidate: Candidate, sink: Sink) -> PatchInfo:
        assert world.view is not None
        world.view.moves += 1
        return await fetch(candidate, sink)

    world.fetch = moved_first
    run_alone(world.run(SECONDS + 10))
    liar = world.hosts()[1]
    assert world.hosts().count(liar) == 1
    assert world.staged == [NEW]
