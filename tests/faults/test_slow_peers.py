"""Peers that are just fast enough: a device's update comes from somebody else beside them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo, sign_file
from pypatcher.transfer import StallRule, hedging, wire
from pypatcher.transport import Stream
from tests.support.devices import LoopbackFleet, compile_app, here, open_fleet
from tests.support.hostile import open_hostile_peer

FILL = 16 << 20


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path) as made:
        yield made


def large_release(world: LoopbackFleet, version: str) -> tuple[Path, PatchInfo]:
    """A program that takes a quarter of an hour at twenty kilobytes a second."""
    path = compile_app(world.folder / f"large-{version}", version)
    with path.open("ab") as file:
        file.write(os.urandom(FILL))
    return path, sign_file(path, world.key, None, here())


async def test_a_peer_that_drips_a_release_is_overtaken_by_an_honest_one(
    world: LoopbackFleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hedging, "_GRACE", 1.0)
    old, _ = world.release("1.0.0")
    new, info = large_release(world, "2.0.0")
    data = new.read_bytes()

    async def drip(stream: Stream) -> None:
        await stream.write(wire.encode_acceptance(info, len(data)))
        for start in range(0, len(data), 2000):
            await stream.write(data[start : start + 2000])
            await asyncio.sleep(0.1)

    device = world.device(old, StallRule())
    async with open_hostile_peer(world, drip) as peer:
        await peer.announce(info)
        await peer.asked.wait()
        await device.wait_for("fetch.started")
        world.device(new)
        await device.wait_for("release.staged", lambda event: event.version == "2.0.0")
        failed = await device.wait_for("fetch.failed")
        assert "faster" in failed.reason
    assert device.restart() == "2.0.0"
    assert device.path.read_bytes() == data
    assert [path.name for path in device.installation.layout.state_folder.glob("partial-*")] == []
