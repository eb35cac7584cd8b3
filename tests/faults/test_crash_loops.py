"""A release that fails at its start, before any of our code in it runs, is back on the old version within a minute.

Under ``pypatcher run``, and under systemd's restart rules (a loop that does what our units say) with the guard; as
an ELF program, a zipapp and a PyInstaller onefile; and the fixed release is taken afterwards.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.crashing import FAULTS, Service, build, guarded, supervised
from tests.support.devices import LoopbackFleet, open_fleet

BACK_WITHIN = 60.0
PATIENCE = 60.0
CASES = [(packaging, fault) for packaging, faults in FAULTS.items() for fault in faults]
"""Seconds until a device is back, and that a test waits for anything else."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[LoopbackFleet]:
    async with open_fleet(tmp_path, nodes=4) as made:
        yield made


def refusal(service: Service) -> list[str]:
    return [refused.reason for refused in service.installation().status().refused]


@pytest.mark.parametrize(("packaging", "fault"), CASES)
async def test_run_rolls_a_crashing_release_back_and_takes_the_fixed_one(
    world: LoopbackFleet, packaging: str, fault: str
) -> None:
    old, bad = build(world, packaging, "1.0.0"), build(world, packaging, "2.0.0", fault)
    async with supervised(Service(world, old)) as service:
        async with asyncio.timeout(PATIENCE):
            holder = world.device(bad)
            await service.heard("release.activated", "2.0.0")
        async with asyncio.timeout(BACK_WITHIN):
            back = await service.heard("trial.rolled_back", "2.0.0")
            await service.program_is(old)
        assert back["to"] == "1.0.0"
        assert [one.partition(";")[0] for one in refusal(service)] == ["2.0.0: 3 failed starts, 0 reboots on trial"]
        await holder.stop()
        fixed = build(world, packaging, "2.0.1")
        world.device(fixed)
        async with asyncio.timeout(PATIENCE):
            await service.heard("trial.confirmed", "2.0.1")
            await service.program_is(fixed)
    status = service.installation().status()
    assert (str(status.running), status.trial, status.needs) == ("2.0.1", None, "")
    steps = [(event["event"], event.get("version")) for event in service.events]
    after = steps[steps.index(("release.staged", "2.0.0")) :]
    assert [version for step, version in after if step == "fetch.started"] == ["2.0.1"]


@pytest.mark.parametrize(("packaging", "fault"), CASES)
async def test_the_guard_of_a_unit_rolls_a_crashing_release_back(
    world: LoopbackFleet, packaging: str, fault: str
) -> None:
    old, bad = build(world, packaging, "1.0.0"), build(world, packaging, "2.0.0", fault)
    service = Service(world, old)
    service.installation().settle("guard")
    service.stage(bad)
    async with guarded(service):
        async with asyncio.timeout(BACK_WITHIN):
            await service.heard("release.activated", "2.0.0")
            await service.heard("trial.rolled_back", "2.0.0")
            await service.program_is(old)
        assert [one.partition(";")[0] for one in refusal(service)] == ["2.0.0: 3 failed starts, 0 reboots on trial"]
    fixed = build(world, packaging, "2.0.1")
    service.stage(fixed)
    async with guarded(service), asyncio.timeout(PATIENCE):
        await service.heard("trial.started", "2.0.1")
        await service.program_is(fixed)
    status = service.installation().status()
    assert str(status.running) == "2.0.1"
    assert status.trial is not None
    assert status.trial.failed == 0, "the stop that was asked for counts as no failure"


async def test_the_guard_brings_back_an_app_whose_release_cannot_import(
    world: LoopbackFleet,
) -> None:
    old = build(world, "zipapp", "1.0.0", spawns=True)
    async with guarded(Service(world, old)) as service:
        holder = world.device(build(world, "zipapp", "2.0.0", "import"))
        async with asyncio.timeout(PATIENCE):
            await service.heard("release.activated", "2.0.0")
        async with asyncio.timeout(BACK_WITHIN):
            await service.heard("trial.rolled_back", "2.0.0")
            await service.program_is(old)
        await holder.stop()
        fixed = build(world, "zipapp", "2.0.1", spawns=True)
        world.device(fixed)
        async with asyncio.timeout(PATIENCE):
            await service.heard("release.activated", "2.0.1")
            await service.program_is(fixed)
            while "2.0.1" not in service.starts():
                await asyncio.sleep(0.05)


async def test_a_release_that_is_killed_again_and_again_is_rolled_back_too(world: LoopbackFleet) -> None:
    old, new = build(world, "elf", "1.0.0"), build(world, "elf", "2.0.0")
    service = Service(world, old)
    service.installation().settle("guard")
    service.stage(new)
    async with guarded(service), asyncio.timeout(BACK_WITHIN):
        for count in range(1, 4):
            while service.starts().count("2.0.0") < count:
                await asyncio.sleep(0.05)
            os.kill(service.main_process(), signal.SIGKILL)
        await service.heard("trial.rolled_back", "2.0.0")
        await service.program_is(old)
