"""In the Rust program's namespace, where nodes neither knock nor meet, a device updates by minute slots alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from pypatcher.addresses import Address
from pypatcher.dht import Answered, Dht
from tests.support.devices import open_fleet


async def test_a_device_updates_by_slots_and_knocks_at_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    knocked: list[Address] = []

    async def knock(_dht: Dht, address: Address, *, tries: int = 1) -> Answered:
        knocked.append(address)
        return Answered.NOBODY

    monkeypatch.setattr(Dht, "knock", knock)
    async with open_fleet(tmp_path) as world:
        old, _ = world.release("1.0.0")
        new, _ = world.release("2.0.0")
        world.device(new, kind="rustpatcher")
        device = world.device(old, kind="rustpatcher")
        assert (await device.wait_for("release.found")).source.startswith("slot")
        await device.wait_for("release.staged")
        assert device.restart() == "2.0.0"
    assert knocked == []
