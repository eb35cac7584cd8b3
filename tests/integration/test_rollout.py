"""The owner's word on real devices: who may take a release now, the brake, and what of it others are told."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pypatcher.addresses import format_address
from pypatcher.artifact import PatchInfo, check_release, make_info
from pypatcher.artifact.beside import manifest_path, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word, next_word
from pypatcher.artifact.terms import Hold
from pypatcher.errors import ManifestError
from pypatcher.install import LocalRelease
from pypatcher.keys import encode_key
from pypatcher.node.seed import seed_files
from pypatcher.node.seedfile import choose_files
from pypatcher.settings import Settings
from pypatcher.update.policy import draw
from pypatcher.version import Version
from tests.support.devices import Device, LoopbackFleet, here, open_fleet
from tests.support.hostile import open_hostile_peer, sending
from tests.support.packagings import wait_until
from tests.support.transport import loopback

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
    opened = says(fleet, info, Change(share=100), Change(share=10_000))
    await holder.hear(opened)
    await device.hear(opened)  # it may have met the holder before, and know the share
    await device.wait_for("release.staged")


async def test_devices_hear_the_owner_from_a_seed(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    write_manifest(manifest_path(new), says(fleet, info, Change()), replace=False)
    device = fleet.device(old)
    with seeding(fleet, new) as said:
        await device.wait_for("release.staged")
        await until(lambda: device.node.word is not None and device.node.word.current is not None, "the word")
        assert next(event.says for event in said if event.name == "release.offered").endswith("it runs anywhere")


async def test_a_seed_names_what_is_not_open_to_nobody(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    write_manifest(manifest_path(new), says(fleet, info, HELD), replace=False)
    device = fleet.device(old)
    with seeding(fleet, new) as said:
        await device.wait_for("record.published")
        await asyncio.sleep(2.0)
        assert {event.name for event in said} >= {"release.offered"}
        assert "record.published" not in {event.name for event in said}
    assert "release.found" not in device.names()


async def test_a_seed_wants_a_manifest_once_it_knows_some(fleet: LoopbackFleet) -> None:
    (old, info), (new, _) = fleet.release("1.0.0"), fleet.release("2.0.0")
    write_manifest(manifest_path(old), says(fleet, info, Change()), replace=False)
    with seeding(fleet, old) as said:
        await until(lambda: any(event.name == "release.offered" for event in said), "offered")
    files = choose_files([new], {None: fleet.owner}, [], "pypatcher")
    with pytest.raises(ManifestError, match="--without-manifest"):
        await seed_files(files, settings(fleet), lambda _: None)
    with seeding(fleet, new, without_manifest=True) as said:
        await until(lambda: any(event.name == "release.offered" for event in said), "offered")


async def test_fetch_takes_what_the_owner_says_and_carries_his_word_along(fleet: LoopbackFleet) -> None:
    (old, stable), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    word = says(fleet, info, Change(hold=Hold.HELD, stable=stable))
    out = fleet.folder / "fetched"
    await fleet.device(new, manifest=word).wait_for("node.started")
    await fleet.device(old, manifest=word).wait_for("record.published")
    command = [sys.executable, "-m", "pypatcher", "fetch", "--public-key", encode_key(fleet.owner), "--out", str(out)]
    entries = ",".join(map(format_address, fleet.net.bootstrap))
    options = ["--bind", f"{loopback()}:0", "--bootstrap", entries, "--timeout", "20"]
    done = await asyncio.to_thread(subprocess.run, [*command, *options], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == old.read_bytes()


async def test_few_find_what_is_named_to_nobody(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    word = says(fleet, info, Change(share=draw(bytes(16), info.release_id) + 1))
    holder = fleet.device(new, manifest=word)
    await holder.wait_for("node.started")
    device = fleet.device(old, manifest=word)
    await device.wait_for("release.staged")
    assert "record.published" not in holder.names()


async def test_the_owners_word_is_found_in_the_dht_alone(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    word = says(fleet, info, HELD)
    holder = fleet.device(new, manifest=word)
    await holder.wait_for("node.started")
    await asyncio.sleep(3.0)
    await holder.stop()
    device = fleet.device(old)
    await device.wait_for("node.started")
    await until(lambda: device.node.word is not None and device.node.word.current is not None, "the word")


async def test_two_releases_under_one_version_are_taken_by_nobody_and_said(fleet: LoopbackFleet) -> None:
    (old, _), (new, info) = fleet.release("1.0.0"), fleet.release("2.0.0")
    other = make_info(info.version, bytes(32), info.size, fleet.key)
    device = fleet.device(old, manifest=says(fleet, info, Change()))
    await device.wait_for("node.started")
    await device.hear(says(fleet, other, Change(), Change(share=10_000)))
    conflict = await device.wait_for("release.conflicts")
    assert "two releases under this version" in conflict.reason
    await fleet.device(new).wait_for("record.published")
    await asyncio.sleep(2.0)
    assert "fetch.started" not in device.names()


async def test_a_withdrawn_release_is_taken_from_nobody_who_pushes_it(fleet: LoopbackFleet) -> None:
    (old, stable), (bad, withdrawn), (new, info) = (fleet.release(each) for each in ("1.0.0", "2.0.0", "3.0.0"))
    word = says(fleet, info, Change(stable=stable))
    async with open_hostile_peer(fleet, sending(withdrawn, bad.read_bytes())) as pusher:
        await pusher.announce(withdrawn)
        device = fleet.device(old, manifest=word)
        await device.wait_for("node.started")
        await asyncio.sleep(6.0)  # a device without the word has asked by then
        assert not pusher.asked.is_set()
        fleet.device(new, manifest=word)
        await device.wait_for("release.staged", lambda event: event.version == "3.0.0")
        assert not pusher.asked.is_set()
        assert device.restart() == "3.0.0"


async def test_who_has_left_the_stable_release_behind_still_gives_it(fleet: LoopbackFleet) -> None:
    (old, _), (good, stable), (new, info) = (fleet.release(each) for each in ("1.0.0", "1.1.0", "2.0.0"))
    word = says(fleet, info, Change(stable=stable))
    ahead = fleet.device(good, manifest=word)
    fleet.device(new)
    await ahead.wait_for("release.staged")
    assert ahead.restart() == "2.0.0"
    await ahead.hear(next_word(word, fleet.key, HELD, made=0))
    behind = fleet.device(old, manifest=next_word(word, fleet.key, HELD, made=0))
    await behind.wait_for("release.staged", lambda event: event.version == "1.1.0")


def settings(fleet: LoopbackFleet) -> Settings:
    return Settings(
        bootstrap=fleet.net.bootstrap, bind=((loopback(), 0),), publish_interval=0.5, state=fleet.folder / "seed"
    )


@contextlib.contextmanager
def seeding(fleet: LoopbackFleet, program: Path, *, without_manifest: bool = False) -> Iterator[list[Any]]:
    """A seed of that file, and what it says."""
    said: list[Any] = []
    files = choose_files([program], {None: fleet.owner}, [], "pypatcher")
    seed = asyncio.create_task(seed_files(files, settings(fleet), said.append, without_manifest=without_manifest))
    try:
        yield said
    finally:
        seed.cancel()


def _release_of(fleet: LoopbackFleet, program: Path) -> PatchInfo:
    with program.open("rb") as file:
        return check_release(file.fileno(), fleet.owner, here()).info
