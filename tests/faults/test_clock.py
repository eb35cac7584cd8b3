"""Clocks that are wrong and clocks that jump: a device finds, fetches, starts, confirms and goes back all the same.

Time selects the minute slots that are looked into, and the hour of a restart that was asked for by `At` (its nights and
jumps are in ``unit/node/test_schedule.py``); no release is ever refused because of it.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import sys
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path

import pytest

from pypatcher.events import Event
from pypatcher.install.examine import Examiner
from tests.support.devices import Device, LoopbackFleet, open_fleet
from tests.support.one_update import SCENARIOS, Kit, UpdateScenario, check, complete_in_child, fresh, perform_in_child

DAY = 86_400.0


class WrongClocks:
    """Stands in for `time.time` and `time.time_ns`, with an offset for each device; `time.monotonic` stays.

    A device's tasks and callbacks have its context, in which they find its offset: a list of one number.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.real = time.time
        self._offset: ContextVar[list[float] | None] = ContextVar("offset", default=None)
        put_into_defaults(monkeypatch, {time.time: self.read, time.time_ns: self._read_ns})
        monkeypatch.setattr(time, "time", self.read)
        monkeypatch.setattr(time, "time_ns", self._read_ns)

    def read(self) -> float:
        return self.real() + sum(self._offset.get() or ())

    def _read_ns(self) -> int:
        return int(self.read() * 1e9)

    @contextlib.contextmanager
    def wrong(self, offset: float) -> Iterator[list[float]]:
        """What is started in the block has a clock of its own that is wrong by so many seconds."""
        wrong = [offset]
        token = self._offset.set(wrong)
        try:
            yield wrong
        finally:
            self._offset.reset(token)


def put_into_defaults(monkeypatch: pytest.MonkeyPatch, clocks: Mapping[object, object]) -> None:
    """Replace functions where they are the default of a parameter, which was bound when the module was imported."""
    replaced = 0

    def is_clock(value: object) -> bool:
        return inspect.isroutine(value) and value in clocks

    for module in [module for name, module in sys.modules.items() if name.startswith("pypatcher.")]:
        for holder in [module, *filter(inspect.isclass, vars(module).values())]:
            for function in filter(inspect.isfunction, list(vars(holder).values())):
                for kind in ("__defaults__", "__kwdefaults__"):
                    defaults = getattr(function, kind) or ()
                    values = dict(defaults if isinstance(defaults, dict) else enumerate(defaults))
                    new = {key: clocks[value] if is_clock(value) else value for key, value in values.items()}
                    if new != values:
                        replaced += 1
                        monkeypatch.setattr(function, kind, new if isinstance(defaults, dict) else tuple(new.values()))
    assert replaced


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> WrongClocks:
    return WrongClocks(monkeypatch)


async def updated(device: Device) -> None:
    await device.wait_for("release.staged", lambda event: event.version == "2.0.0")
    assert device.restart() == "2.0.0"
    assert device.installation.confirm() is not None


async def test_devices_that_all_start_in_1970_update_each_other(clock: WrongClocks, tmp_path: Path) -> None:
    with clock.wrong(100.0 - clock.real()):
        async with open_fleet(tmp_path) as world:
            device = world.device(world.release("1.0.0")[0])
            world.device(world.release("2.0.0")[0])
            await updated(device)


async def test_a_device_that_alone_stands_in_1970_is_updated_by_the_others(
    clock: WrongClocks, world: LoopbackFleet
) -> None:
    with clock.wrong(100.0 - clock.real()):
        device = world.device(world.release("1.0.0")[0])
    world.device(world.release("2.0.0")[0])
    await updated(device)


@pytest.mark.parametrize("jump", [DAY, -DAY], ids=["forth", "back"])
@pytest.mark.parametrize(
    "step", ["node.started", "record.published", "release.found", "fetch.started", "fetch.progress", "release.staged"]
)
async def test_a_clock_that_jumps_a_day_at_any_step_costs_no_update(
    clock: WrongClocks, world: LoopbackFleet, step: str, jump: float
) -> None:
    with clock.wrong(0.0) as offset:
        device = world.device(world.release("1.0.0")[0])
    let_jump(offset, device, step, jump)
    world.device(world.release("2.0.0")[0])
    await device.wait_for(step)
    await updated(device)
    assert offset == [jump]


def let_jump(offset: list[float], device: Device, step: str, jump: float) -> None:
    """Let the device's clock jump, once, in the midst of that step: as its event is said."""
    record = device.events

    class Listening(list[Event]):
        def append(self, event: Event) -> None:
            super().append(event)
            if event.name == step:
                offset[0] = jump

    device.events = Listening(record)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
def test_a_clock_that_jumps_between_any_two_readings_changes_nothing(
    scenario: UpdateScenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = Kit.build(tmp_path / "kit")
    real, jumps = time.time_ns, itertools.cycle([0, 1, -1, 365 * 50, -365 * 50])

    def read() -> int:
        return max(0, real() + int(next(jumps) * DAY * 1e9))

    # The one place in install/ that reads this clock; the function is bound when it is defined.
    monkeypatch.setattr(Examiner.__init__, "__defaults__", (read, time.monotonic))
    program, notes = fresh(tmp_path / "device", kit), tmp_path / "notes"
    assert perform_in_child(program, kit, scenario, notes) == 0, notes.read_text()
    assert check(program, kit) == ""
    assert complete_in_child(program, kit, scenario, notes) == ""
