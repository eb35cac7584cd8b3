"""Clocks that are wrong and clocks that jump: a device finds, fetches, starts, confirms and goes back all the same.

Time selects the minute slots that are looked into, and the hour of a restart that was asked for by `At` (its nights and
jumps are in ``unit/node/test_schedule.py``); no release is ever refused because of it.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pypatcher.events import Event
from pypatcher.install.found import Examiner
from tests.support.devices import Device, World, open_world
from tests.support.one_update import SCENARIOS, Kit, Scenario, check, complete_in_child, fresh, perform_in_child

DAY = 86_400.0


class Clock:
    """Stands in for `time.time` and `time.time_ns`; what never jumps, `time.monotonic`, stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.offset = 0.0
        self._real = time.time
        monkeypatch.setattr(time, "time", self.read)
        monkeypatch.setattr(time, "time_ns", lambda: int(self.read() * 1e9))

    def read(self) -> float:
        return self._real() + self.offset


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
async def world(clock: Clock, tmp_path: Path) -> AsyncIterator[World]:
    clock.offset = 0.0
    async with open_world(tmp_path) as made:
        yield made


async def updated(world: World, device: Device) -> None:
    await device.wait_for("release.staged", lambda event: event.version == "2.0.0")
    assert device.restart() == "2.0.0"
    assert device.installation.confirm() is not None


async def test_devices_that_all_start_in_1970_update_each_other(clock: Clock, tmp_path: Path) -> None:
    clock.offset = 100.0 - time.time()
    async with open_world(tmp_path) as world:
        device = world.device(world.release("1.0.0")[0])
        world.device(world.release("2.0.0")[0])
        await updated(world, device)


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forth", "back"])
@pytest.mark.parametrize("step", ["release.found", "fetch.started", "record.published", "node.started"])
async def test_a_clock_that_jumps_a_day_at_any_step_costs_time_and_no_update(
    clock: Clock, world: World, step: str, jump: float
) -> None:
    device = world.device(world.release("1.0.0")[0])
    let_jump(clock, device, step, jump)
    world.device(world.release("2.0.0")[0])
    await device.wait_for(step)
    await updated(world, device)
    assert clock.offset == jump


def let_jump(clock: Clock, device: Device, step: str, jump: float) -> None:
    """Let the clock jump, once, in the midst of that step: as its event is said."""
    record = device.events

    class Listening(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            if event.name == step:
                clock.offset = jump

    device.events = Listening(record)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_an_installation_whose_clock_jumps_between_any_two_readings_ends_as_any_other(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = Kit.build(tmp_path / "kit")
    real, jumps = time.time_ns, itertools.cycle([0, 1, -1, 365 * 50, -365 * 50])

    def read() -> int:
        return max(0, real() + int(next(jumps) * DAY * 1e9))

    # The one place in install/ that reads a clock; the function is bound when it is defined.
    monkeypatch.setattr(Examiner.__init__, "__defaults__", (read,))
    program, notes = fresh(tmp_path / "device", kit), tmp_path / "notes"
    assert perform_in_child(program, kit, scenario, notes) == 0, notes.read_text()
    assert check(program, kit) == ""
    assert complete_in_child(program, kit, scenario, notes) == ""
