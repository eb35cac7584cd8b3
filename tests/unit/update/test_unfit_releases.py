"""What this device refuses, or cannot keep, is asked for rarely or never again, and keeps it from nothing else."""

from __future__ import annotations

import asyncio

import pytest

from pypatcher.errors import (
    CannotReplaceError,
    RefusedReleaseError,
    StateError,
    WrongTargetError,
)
from pypatcher.update.updater import Updater
from tests.support.node_fakes import run_alone
from tests.support.updater_world import NEW, NEWER, UpdaterWorld


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
