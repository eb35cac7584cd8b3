"""A release that neither ends nor works: brought back where something says in time that it does not work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.crashing import Service, build, guarded, supervised
from tests.support.devices import LoopbackFleet, open_fleet

BACK_WITHIN = 60.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path, nodes=4) as made:
        yield made


@pytest.mark.parametrize("packaging", ["elf", "zipapp"])
async def test_run_rolls_a_hanging_release_back_if_it_must_say_ready(world: LoopbackFleet, packaging: str) -> None:
    old, bad = build(world, packaging, "1.0.0"), build(world, packaging, "2.0.0", "hang")
    service = Service(world, old)
    service.installation().settle("guard")
    service.stage(bad)
    async with supervised(service, "--ready-within", "1"), asyncio.timeout(BACK_WITHIN):
        await service.heard("release.activated", "2.0.0")
        await service.heard("trial.rolled_back", "2.0.0")
        await service.program_is(old)
    fixed = build(world, packaging, "2.0.1")
    service.stage(fixed)
    async with supervised(service, "--ready-within", "30"), asyncio.timeout(BACK_WITHIN):
        await service.heard("trial.confirmed", "2.0.1")
        await service.program_is(fixed)


async def test_run_rolls_nothing_back_for_a_word_that_could_not_be_heard(world: LoopbackFleet) -> None:
    service = Service(world, build(world, "elf", "1.0.0"))
    service.installation().settle("guard")
    service.stage(build(world, "elf", "2.0.0", "hang"))
    async with supervised(service, "--ready-within", "3"), asyncio.timeout(BACK_WITHIN):
        while "2.0.0" not in service.starts():
            await asyncio.sleep(0.05)
        environment = Path(f"/proc/{service.main_process()}/environ").read_bytes().split(b"\0")
        [address] = [one for one in environment if one.startswith(b"NOTIFY_SOCKET=")]
        Path(address.partition(b"=")[2].decode()).unlink()
        while not any("cannot be heard" in str(event.get("message")) for event in service.events):
            await asyncio.sleep(0.05)
        trial = service.installation().status().trial
        assert trial is not None
        assert trial.failed == 0


async def test_run_leaves_a_confirmed_program_that_says_nothing_alone(world: LoopbackFleet) -> None:
    old = build(world, "elf", "1.0.0", "hang")
    service = Service(world, old)
    async with supervised(service, "--ready-within", "0.2"):
        async with asyncio.timeout(BACK_WITHIN):
            await service.heard("node.started", "1.0.0")
        assert service.starts() == ["1.0.0"]
        assert service.installation().status().trial is None


async def test_a_unit_rolls_back_a_release_that_hangs_before_it_is_ready(
    world: LoopbackFleet,
) -> None:
    old = build(world, "elf", "1.0.0")
    service = Service(world, old)
    service.installation().settle("guard")
    service.stage(build(world, "elf", "2.0.0", "hang"))
    async with guarded(service, start_timeout=1.5), asyncio.timeout(BACK_WITHIN):
        await service.heard("release.activated", "2.0.0")
        await service.heard("trial.rolled_back", "2.0.0")
        await service.program_is(old)
