"""A slow fetch gets a rival and looking goes on meanwhile; a good one is left alone."""

from __future__ import annotations

import asyncio

import pytest

from pypatcher.artifact import PatchInfo
from pypatcher.budgets.intake import Intake
from pypatcher.budgets.peer_budget import FetchBudget
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import (
    ContentMismatchError,
    PeerBusyError,
    PeerError,
)
from pypatcher.transfer.exchange import Sink
from pypatcher.update.updater import Updater
from tests.support.discovery import node
from tests.support.node_fakes import run_alone
from tests.support.updater_world import NEW, NEWER, SIZE, UpdaterWorld


def staged_at(world: UpdaterWorld) -> float:
    """When the first release was staged."""
    return next(
        time for time, event in zip(world.heard.times, world.heard, strict=True) if event.name == "release.staged"
    )


def test_a_peer_that_drips_its_bytes_is_overtaken_by_another_holder(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.peer("10.0.0.2")
    world.rates["10.0.0.1"] = 0.2
    world.budget.succeeded(("10.0.0.1", 1))
    run_alone(world.run(7200))
    assert world.hosts() == ["10.0.0.1", "10.0.0.2"]
    assert world.staged == [NEW]
    assert staged_at(world) < 60
    assert "faster" in str(next(event for event in world.heard if event.name == "fetch.failed"))


def test_a_hundred_peers_that_drip_delay_it_by_two_hours_at_most(world: UpdaterWorld) -> None:
    for number in range(100):
        world.peer(f"8.{number}.8.8", ContentMismatchError("other bytes"))
        world.rates[f"8.{number}.8.8"] = SIZE / 10_000
    world.peer("9.9.9.9")
    run_alone(world.run(2 * 3600))
    assert world.staged == [NEW]


def test_a_fetch_that_goes_on_well_has_no_rival(world: UpdaterWorld) -> None:
    for number in range(5):
        world.peer(f"10.0.0.{number}")
        world.rates[f"10.0.0.{number}"] = SIZE / 250
    run_alone(world.run(3600))
    assert len(world.asked) == 1
    assert world.staged == [NEW]


def test_where_the_devices_own_line_is_slow_rivals_take_little_of_it(world: UpdaterWorld) -> None:
    for number in range(50):
        world.peer(f"10.0.0.{number}")
        world.rates[f"10.0.0.{number}"] = SIZE / 3000
    run_alone(world.run(3100))
    assert world.staged == [NEW]
    assert len(world.asked) < 60


def test_what_a_slow_fetch_brought_is_left_when_it_is_given_up(world: UpdaterWorld) -> None:
    """Else a rival that is quicker for a while, and lies, takes away what honest peers gave."""
    for number in range(2):
        world.peer(f"10.0.0.{number}", ContentMismatchError("other bytes"))
        world.rates[f"10.0.0.{number}"] = SIZE / 3000
    run_alone(world.run(600))
    given_up = [str(event) for event in world.heard if event.name == "fetch.failed"]
    assert all("slow" in each for each in given_up)
    assert world.installation.left > len(given_up) > 2


def test_a_fetch_that_is_stopped_before_it_begins_is_over(world: UpdaterWorld) -> None:
    """It was under way for ever: its peer was never asked again, and who waited for its end waited on."""
    candidate = Candidate(NEW, node(2).public, ("10.0.0.3", 1), "an offer")

    async def never(_candidate: Candidate, _sink: Sink) -> PatchInfo:
        raise AssertionError("it was stopped")

    async def stopped(updater: Updater) -> None:
        await asyncio.sleep(1)
        async with asyncio.TaskGroup() as tasks:
            updater._begin(tasks, candidate, never)
            for delivery in updater._running.values():
                delivery.stop("somebody else was faster")
        assert not updater._running
        assert await updater.would_take(NEW, candidate.address)

    run_alone(world.run(10, beside=stopped))


def test_looking_goes_on_in_a_fetch_and_a_newer_one_is_fetched_beside(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.rates["10.0.0.1"] = SIZE / 290

    async def later(_updater: Updater) -> None:
        await asyncio.sleep(100)
        world.peer("10.0.0.2", info=NEWER)

    run_alone(world.run(3600, beside=later))
    assert world.staged == [NEWER]
    assert staged_at(world) < 200


def test_a_newer_release_that_nobody_gives_ends_no_fetch_under_way(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.rates["10.0.0.1"] = SIZE / 290

    async def later(_updater: Updater) -> None:
        await asyncio.sleep(100)
        for number in range(20):
            world.peer(f"10.0.1.{number}", PeerError("gone"), info=NEWER)

    run_alone(world.run(3600, beside=later))
    assert world.staged == [NEW]
    assert staged_at(world) < 300


def test_without_room_for_a_rival_the_slow_fetch_goes_on_alone(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.peer("10.0.0.2")
    world.rates["10.0.0.1"] = world.rates["10.0.0.2"] = SIZE / 3000
    world.installation.room = SIZE + 10
    run_alone(world.run(7200))
    assert world.staged == [NEW]
    assert len(world.asked) == 1
    assert "preflight.failed" not in world.heard.names()


def test_an_offer_is_taken_beside_a_slow_fetch_not_beside_a_good_one(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.rates["10.0.0.1"] = 0.2
    offer = Candidate(NEW, node(2).public, ("10.0.0.3", 1), "an offer")

    async def fetch(_candidate: Candidate, sink: Sink) -> PatchInfo:
        sink.write(bytes(SIZE))
        sink.received(SIZE, SIZE)
        return NEW

    async def offers(updater: Updater) -> None:
        await asyncio.sleep(10)
        with pytest.raises(PeerBusyError):
            await updater.would_take(NEW, offer.address)
        await asyncio.sleep(30)
        assert await updater.would_take(NEW, offer.address)
        await updater.take(offer, fetch)
        assert world.staged == [NEW]
        assert not await updater.would_take(NEW, offer.address)

    run_alone(world.run(100, beside=offers))
    assert world.staged == [NEW]


def test_an_offer_is_taken_only_while_the_updater_is_at_work(world: UpdaterWorld) -> None:
    found: list[Updater] = []

    async def offers(updater: Updater) -> None:
        found.append(updater)
        assert await updater.would_take(NEW, ("10.0.0.3", 1))

    run_alone(world.run(10, beside=offers))
    assert not run_alone(found[0].would_take(NEW, ("10.0.0.3", 1)))


def test_the_lan_alone_is_asked_once_the_day_is_used_up(world: UpdaterWorld) -> None:
    intake = Intake(day=1000, clock=lambda: 0.0)
    intake.took(1000, ("20.0.0.1", 1))
    world.past.budget = world.budget = FetchBudget(intake)
    world.peer("20.0.0.1")
    run_alone(world.run(7200))
    assert world.hosts() == []
    world.peer("10.0.0.1")
    run_alone(world.run(7200))
    assert world.hosts() == ["10.0.0.1"]
    assert world.staged == [NEW]
