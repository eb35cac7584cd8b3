"""The owner's word on real devices: who may take a release now, the brake, and what of it others are told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo, check_release
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word, next_word
from pypatcher.artifact.terms import Hold
from pypatcher.install import LocalRelease
from pypatcher.update.policy import draw
from pypatcher.version import Version
from tests.support.devices import Device, LoopbackFleet, here, open_fleet
from tests.support.packagings import wait_until

pytestmark = pytest.mark.timeout(120)
HELD = Change(hold=Hold.HELD)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path) as world:
        yield world


def says(fleet: LoopbackFleet, info: PatchInfo, change: Change, *more: Change) -> ManifestFile:
    """The owner's word, and revisions of it; the last one."""
    word = first_word(fleet.key, info, [here().name], change)
    for each in more:
        word = next_word(word, fleet.key, each, made=0)
    return word


async def until(condition: Callable[[], bool], what: str) -> None:
    await asyncio.to_thread(wait_until, condition, what)


def staged(device: Device) -> LocalRelease | None:
    return device.installation.release_for_restart()


async def test_a_share_lets_exactly_those_take_it_whose_number_is_below(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    own = draw(bytes(16), info.release_id)
    device = fleet.device(old, manifest=says(fleet, info, Change(share=own)))
    await device.wait_for("node.started")
    await fleet.device(new).wait_for("record.published")
    await asyncio.sleep(2.0)
    assert "fetch.started" not in device.names()
    await device.hear(says(fleet, info, Change(share=own), Change(share=own + 1)))
    await device.wait_for("release.staged")
    assert device.restart() == "2.0.0"


async def test_a_hold_sets_aside_and_its_end_stages_without_a_fetch(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    device = fleet.device(old, manifest=says(fleet, info, Change()))
    holder = fleet.device(new)
    await device.wait_for("release.staged")
    await holder.stop()
    await device.hear(says(fleet, info, Change(), HELD))
    assert staged(device) is None
    assert device.restart() == "1.0.0"
    await device.hear(says(fleet, info, Change(), HELD, Change(hold=Hold.GO_ON)))
    await until(lambda: staged(device) is not None, "staged again")
    assert device.names().count("fetch.started") == 1
    assert device.restart() == "2.0.0"


async def test_a_recall_brings_a_trial_back_and_refuses_nothing(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    device = fleet.device(old, manifest=says(fleet, info, Change()))
    fleet.device(new)
    await device.wait_for("release.staged")
    assert device.restart() == "2.0.0"
    recalled = says(fleet, info, Change(), Change(hold=Hold.RECALLED))
    await device.hear(recalled)
    back = staged(device)
    assert back is not None and back.info.version == Version(1, 0, 0)
    assert device.restart() == "1.0.0"
    assert device.installation.status().refused == ()
    await device.hear(next_word(recalled, fleet.key, Change(hold=Hold.GO_ON), made=0))
    await until(lambda: staged(device) is not None, "staged again")
    assert device.restart() == "2.0.0"


async def test_a_hotfix_reaches_who_is_on_trial_of_a_held_release(fleet: LoopbackFleet) -> None:
    (old, _), (bad, info), (good, fix) = (fleet.release(each) for each in ("1.0.0", "2.0.0", "3.0.0"))
    device = fleet.device(old, manifest=says(fleet, info, Change()))
    fleet.device(bad)
    await device.wait_for("release.staged")
    assert device.restart() == "2.0.0"
    await device.hear(says(fleet, info, Change(), HELD))
    assert device.restart() == "2.0.0"  # held: it stays on trial, and nothing confirms it
    first = next(each.info for each in device.installation.held())
    await device.hear(says(fleet, fix, Change(share=0, stable=_release_of(fleet, old))))
    fleet.device(good)
    await device.wait_for("release.staged", lambda event: event.version == "3.0.0")
    assert first == info
    assert device.restart() == "3.0.0"
    status = device.installation.status()
    assert (str(status.confirmed), status.refused) == ("1.0.0", ())


async def test_what_is_not_open_to_all_is_named_to_nobody_in_the_slots(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    holder = fleet.device(new, manifest=says(fleet, info, Change(share=100)))
    await holder.wait_for("node.started")
    device = fleet.device(old)
    await device.wait_for("record.published")
    await asyncio.sleep(2.0)
    assert "record.published" not in holder.names()
    assert "release.found" not in device.names()
    await holder.hear(says(fleet, info, Change(share=100), Change(share=10_000)))
    await device.wait_for("release.staged")


def _release_of(fleet: LoopbackFleet, program: Path) -> PatchInfo:
    with program.open("rb") as file:
        return check_release(file.fileno(), fleet.owner, here()).info
