"""Devices without slots, which meet through the swarm alone: no record is read, or none is published."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pypatcher.addresses import Address, parse_address
from pypatcher.dht import Answered, Dht
from pypatcher.discovery import Published, Tracker
from pypatcher.discovery.sources import Found
from pypatcher.discovery.sources.slots import SlotSource
from pypatcher.errors import PeerError
from pypatcher.node.report import REPORT_LIMIT, decode_report
from pypatcher.transport import Connection, Endpoint
from tests.support.devices import Device, LoopbackFleet, open_fleet


@pytest.fixture
def without_records(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(_self: Tracker, **_options: object) -> list[object]:
        return []

    async def publish(_self: Tracker, *_: object) -> Published:
        return Published(0, 0)

    monkeypatch.setattr(Tracker, "look", look)
    monkeypatch.setattr(Tracker, "publish", publish)


async def updated(world: LoopbackFleet, device: Device) -> str:
    await device.wait_for("release.staged", lambda event: event.version == "2.0.0")
    return device.restart()


@pytest.mark.usefixtures("without_records")
async def test_a_release_that_only_the_swarm_knows_of_updates_every_device(tmp_path: Path) -> None:
    async with open_fleet(tmp_path) as world:
        old, _ = world.release("1.0.0")
        new, _ = world.release("2.0.0")
        devices = [world.device(old) for _ in range(3)]
        world.device(new)
        for device in devices:
            assert await updated(world, device) == "2.0.0"


@pytest.mark.usefixtures("without_records")
async def test_a_holder_that_nobody_can_reach_gives_to_whom_it_can_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden: set[Address] = set()
    knock = Dht.knock

    async def knock_at_the_reachable(dht: Dht, address: Address, *, tries: int = 1) -> Answered:
        return Answered.NOBODY if address in hidden else await knock(dht, address, tries=tries)

    connect = Endpoint.connect

    async def connect_to_the_reachable(endpoint: Endpoint, address: Address, **options: Any) -> Connection:
        if address in hidden:
            raise PeerError("nobody can reach it")
        return await connect(endpoint, address, **options)

    monkeypatch.setattr(Dht, "knock", knock_at_the_reachable)
    monkeypatch.setattr(Endpoint, "connect", connect_to_the_reachable)
    async with open_fleet(tmp_path) as world:
        old, _ = world.release("1.0.0")
        new, _ = world.release("2.0.0")
        holder = world.device(new)
        started = await holder.wait_for("node.started")
        hidden.add(parse_address(started.addresses[0]))
        seeker = world.device(old)
        found = await seeker.wait_for("release.found")
        assert found.source == "an offer"
        assert await updated(world, seeker) == "2.0.0"


async def test_an_answer_counts_as_a_look_though_no_slot_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``status`` says when somebody last answered who would have named what is new: the pointer or the swarm."""

    async def never(_source: SlotSource, *, is_short: bool = False) -> Found:
        await asyncio.Event().wait()
        raise AssertionError(is_short)

    monkeypatch.setattr(SlotSource, "look", never)
    async with open_fleet(tmp_path) as fleet:
        device = fleet.device(fleet.release("1.0.0")[0])
        async with asyncio.timeout(60):
            while (said := decode_report(device.installation.read_report(REPORT_LIMIT))) is None or not said.looked:
                await asyncio.sleep(0.2)
    assert said.heard == 0
