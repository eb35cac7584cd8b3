"""Devices that meet through the swarm alone: no record is read, or none is published."""

from __future__ import annotations

from pathlib import Path

from tests.support.devices import Device, World, open_world

import pytest

from pypatcher.discovery import Published, Tracker


@pytest.fixture
def without_records(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(_self: Tracker) -> list[object]:
        return []

    async def publish(_self: Tracker, *_: object) -> Published:
        return Published(0, 0)

    monkeypatch.setattr(Tracker, "look", look)
    monkeypatch.setattr(Tracker, "publish", publish)


async def updated(world: World, device: Device) -> str:
    await device.wait_for("release.staged", lambda event: event.version == "2.0.0")
    return device.restart()


@pytest.mark.usefixtures("without_records")
async def test_a_release_that_only_the_swarm_knows_of_updates_every_device(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        old, _ = world.release("1.0.0")
        new, _ = world.release("2.0.0")
        devices = [world.device(old) for _ in range(3)]
        world.device(new)
        for device in devices:
            assert await updated(world, device) == "2.0.0"
