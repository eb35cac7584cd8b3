"""What this device refuses, or cannot keep, is asked for rarely or never again, and keeps it from nothing else."""

from __future__ import annotations

import asyncio

import pytest

from pypatcher.artifact import PatchInfo
from pypatcher.discovery.candidates import Candidate
from pypatcher.errors import (
    CannotReplaceError,
    ContentMismatchError,
    NoRegionError,
    RefusedReleaseError,
    RegionError,
    StateError,
    WrongTargetError,
)
from pypatcher.settings import Settings
from pypatcher.transfer.exchange import Sink
from pypatcher.update.rule import ANYTHING
from pypatcher.update.updater import Updater
from tests.support.node_fakes import run_alone
from tests.support.updater_world import NEW, NEWER, SIZE, UpdaterWorld


def test_a_release_that_was_refused_here_is_not_fetched_again(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.past.files[NEW.signature.hex()] = "ab" * 64
    world.installation.refused_files.add(b"\xab" * 64)
    run_alone(world.run(3600))
    assert world.asked == []
    assert world.heard.names() == ["release.refused"]


def test_the_same_build_as_a_higher_version_is_welcome_again(world: UpdaterWorld) -> None:
    world.past.files[NEW.signature.hex()] = "ab" * 64
    world.installation.refused_files.add(b"\xab" * 64)
    assert NEWER.hash == NEW.hash
    world.peer("10.0.0.1", info=NEWER)
    run_alone(world.run(60))
    assert world.staged == [NEWER]


def test_a_large_release_waits_for_a_person_on_a_metered_device(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    run_alone(world.run(24 * 3600, Settings(metered=True, metered_size=SIZE - 1)))
    assert (world.asked, world.heard.names()) == ([], ["preflight.failed"])
    assert "this metered device" in str(world.heard[0])


def test_a_small_release_is_fetched_by_a_metered_device(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    run_alone(world.run(24 * 3600, Settings(metered=True, metered_size=SIZE)))
    assert world.staged == [NEW]


def test_a_refusal_that_only_the_download_shows_costs_one_download(world: UpdaterWorld) -> None:
    for number in range(5):
        world.peer(f"10.0.0.{number}")
    world.installation.stage_error = RefusedReleaseError("it failed here before")
    run_alone(world.run(24 * 3600))
    assert len(world.asked) == 1
    assert world.heard.names().count("release.refused") == 1


def test_what_a_download_showed_unfit_is_not_downloaded_again(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.installation.stage_error = WrongTargetError("it is for another machine")
    run_alone(world.run(60))
    world.installation.stage_error = None
    world.heard.clear()
    run_alone(world.run(600))
    assert len(world.asked) == 1
    assert world.staged == []
    assert [event.reason for event in world.heard] == ["it is for another machine"]  # type: ignore[attr-defined]


def test_a_refused_release_does_not_keep_it_from_its_successor(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.installation.stage_error = RefusedReleaseError("it failed here before")

    async def body() -> None:
        running = asyncio.create_task(world.run(3600))
        await asyncio.sleep(600)
        world.installation.stage_error = None
        world.peer("10.0.0.2", info=NEWER)
        await running

    run_alone(body())
    assert world.staged == [NEWER]


def test_preflight_is_said_once_and_tried_again_with_growing_pauses(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.installation.preflight_error = CannotReplaceError("the folder cannot be written")

    async def body() -> None:
        running = asyncio.create_task(world.run(3600))
        await asyncio.sleep(1000)
        assert world.asked == []
        assert world.heard.names() == ["release.found", "preflight.failed"]
        world.installation.preflight_error = None
        await running

    run_alone(body())
    assert world.staged == [NEW]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), CannotReplaceError("no"), StateError("no")])
@pytest.mark.parametrize("where", ["partial_error", "stage_error"])
def test_a_device_that_cannot_keep_it_asks_no_other_peer(world: UpdaterWorld, where: str, error: Exception) -> None:
    for number in range(5):
        world.peer(f"10.0.0.{number}")
    setattr(world.installation, where, error)
    run_alone(world.run(24 * 3600))
    assert len(world.asked) <= 12
    assert world.heard.names().count("preflight.failed") == 1
    setattr(world.installation, where, None)


def test_what_is_unfit_no_more_is_fetched_without_a_restart(world: UpdaterWorld) -> None:
    world.peer("10.0.0.1")
    world.installation.stage_error = RefusedReleaseError("it failed here before")

    async def later(_updater: Updater) -> None:
        await asyncio.sleep(1000)
        assert (len(world.asked), world.staged) == (1, [])
        world.installation.stage_error = None
        world.past.unfit.clear()

    run_alone(world.run(3600, beside=later))
    assert world.staged == [NEW]


@pytest.mark.parametrize("another", [ContentMismatchError("another"), NoRegionError("none"), RegionError("damaged")])
def test_a_tree_that_makes_another_file_is_nobodys_fault(world: UpdaterWorld, another: Exception) -> None:
    world.peer("10.0.0.1")
    dropped = []

    async def fetch(candidate: Candidate, sink: Sink) -> PatchInfo:
        if not dropped:
            sink.follows_tree(lambda: dropped.append(candidate))
        world.asked.append((0.0, candidate.address[0]))
        world.installation.stage_error = None if dropped else another
        return candidate.info

    world.fetch = fetch
    run_alone(world.run(60))
    assert len(dropped) == 1
    assert len(world.asked) == 2
    assert world.staged == [NEW]


def test_a_fetch_may_end_while_the_rule_is_asked(world: UpdaterWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.peer("10.0.0.1")
    ended, questions = asyncio.Event(), []

    async def fetch(candidate: Candidate, _sink: Sink) -> PatchInfo:
        await ended.wait()
        return candidate.info

    async def allows(_rule: object, info: PatchInfo) -> bool:
        questions.append(info)
        if len(questions) == 3:  # before the fetch, and of what is heard and what is fetched in the next round
            ended.set()
            await asyncio.sleep(1.0)
        return True

    world.fetch = fetch
    monkeypatch.setattr(type(ANYTHING), "allows", allows)
    run_alone(world.run(600))
    assert world.staged == [NEW]
    assert len(questions) > 3
