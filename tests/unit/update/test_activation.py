"""A staged release takes over when its mode says so, and never during a trial."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pypatcher.events import RestartWaits
from pypatcher.install.layout import Layout
from pypatcher.update.activation import Activation
from pypatcher.update.mode import At, Mode, Now, OnRestart
from tests.support.discovery import release
from tests.support.node_fakes import FakeInstallation, run_alone

MIDNIGHT = 20_000 * 86_400.0


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@dataclass
class FakeTogether:
    """Other instances, of which those listed are not ready; and whether we are."""

    others: tuple[int, ...] = ()
    ready: bool = False

    def say_ready(self) -> tuple[int, ...]:
        self.ready = True
        return self.others

    def withdraw(self) -> None:
        self.ready = False


class ActivationCase:
    """An installation, and the restarts that were asked for."""

    def __init__(self, folder: Path, mode: Mode, *, by_itself: bool = True) -> None:
        self.installation = FakeInstallation(Layout(folder / "app"))
        self.installation.together = self.together = FakeTogether()
        self.waits: list[RestartWaits] = []
        self.restarts: list[tuple[float, str]] = []
        self.vain = 0
        loop = asyncio.get_running_loop()

        async def restart(version: str) -> bool:
            self.restarts.append((loop.time(), version))
            return len(self.restarts) > self.vain

        self.activation = Activation(
            mode,
            self.installation,  # type: ignore[arg-type]
            restart,
            self.waits.append if by_itself else None,
            wall=lambda: MIDNIGHT + loop.time(),
            monotonic=loop.time,
            rng=random.Random(1),
        )
        self.task = loop.create_task(self.activation.run())

    def stage(self, version: str) -> None:
        self.installation.staged.append(release(version))
        self.activation.look_again()

    async def until(self, seconds: float) -> None:
        await asyncio.sleep(seconds - asyncio.get_running_loop().time())


def test_now_is_as_soon_as_it_is_staged(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        await device.until(100)
        assert device.restarts == []
        device.stage("2.0.0")
        await device.until(101)
        assert device.restarts == [(100, "2.0.0")]
        device.task.cancel()

    run_alone(body())


def test_what_was_staged_before_the_start_counts_too(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        device.installation.staged.append(release("2.0.0"))
        await device.until(1)
        assert device.restarts == [(0, "2.0.0")]
        device.task.cancel()

    run_alone(body())


def test_on_restart_never_restarts(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, OnRestart())
        device.stage("2.0.0")
        await device.until(90_000)
        assert device.restarts == []
        device.task.cancel()

    run_alone(body())


def test_at_waits_for_its_time_and_then_takes_the_newest(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, At(3, 30))
        device.stage("2.0.0")
        await device.until(3600)
        device.stage("2.1.0")
        await device.until(86_000)
        ((when, version),) = device.restarts
        assert 3.5 * 3600 <= when <= 3.5 * 3600 + 301
        assert version == "2.1.0"
        device.task.cancel()

    run_alone(body())


def test_what_is_held_at_its_hour_restarts_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, At(3, 30))
        device.stage("2.0.0")
        await device.until(3600)
        device.installation.staged.clear()
        await device.until(86_000)
        assert device.restarts == []
        assert not device.together.ready
        device.stage("2.1.0")
        await device.until(2 * 86_400)
        assert [version for _, version in device.restarts] == ["2.1.0"]
        device.task.cancel()

    run_alone(body())


def test_nothing_takes_over_during_a_trial_and_its_end_lets_it(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        device.installation.trial = "2.0.0"
        device.stage("2.1.0")
        await device.until(100)
        assert device.restarts == []
        device.installation.trial = None
        device.activation.look_again()
        await device.until(101)
        assert device.restarts == [(100, "2.1.0")]
        device.task.cancel()

    run_alone(body())


def test_a_trial_that_somebody_else_ends_is_noticed_in_two_minutes(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        device.installation.trial = "2.0.0"
        device.stage("2.1.0")
        await device.until(300)
        assert device.restarts == []
        device.installation.trial = None
        await device.until(420)
        assert [version for _, version in device.restarts] == ["2.1.0"]
        device.task.cancel()

    run_alone(body())


def test_a_restart_that_changed_nothing_is_not_asked_for_again(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        device.stage("2.0.0")
        await device.until(86_400)
        assert len(device.restarts) == 1
        device.task.cancel()

    run_alone(body())


def test_a_second_release_has_its_turn_after_the_first(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        for seconds, version in ((10, "2.0.0"), (20, "2.1.0")):
            await device.until(seconds)
            device.stage(version)
        await device.until(30)
        assert device.restarts == [(10, "2.0.0"), (20, "2.1.0")]
        device.task.cancel()

    run_alone(body())


def test_a_restart_that_could_not_begin_is_asked_for_again(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        device.vain = 2
        device.stage("2.0.0")
        await device.until(86_400)
        assert len(device.restarts) == 3

    run_alone(body())


def test_what_a_person_staged_takes_over_within_two_minutes(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        await device.until(100)
        device.installation.staged.append(release("2.0.0"))  # `pypatcher stage` cannot tell us
        await device.until(220)
        assert [version for _, version in device.restarts] == ["2.0.0"]
        device.task.cancel()

    run_alone(body())


def test_all_instances_are_waited_for(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        device.together.others = (11, 12)
        device.stage("2.0.0")
        await device.until(100)
        assert (device.restarts, device.together.ready) == ([], True)
        device.together.others = ()
        await device.until(102)
        assert [version for _, version in device.restarts] == ["2.0.0"]
        assert device.together.ready  # until the restart
        assert device.waits == []
        device.task.cancel()

    run_alone(body())


def test_an_instance_that_does_not_come_is_named(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        device.together.others = (11, 12)
        device.stage("2.0.0")
        await device.until(605)
        [said] = device.waits
        assert "process 11, 12" in str(said)
        assert not device.together.ready
        await device.until(700)
        assert device.together.ready  # again
        device.together.others = ()
        await device.until(702)
        assert len(device.restarts) == 1
        device.task.cancel()

    run_alone(body())


def test_at_keeps_its_hour_whatever_the_others_do(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, At(3, 30))
        device.together.others = (11,)
        device.stage("2.0.0")
        await device.until(12 * 3600)
        device.together.others = ()
        await device.until(24 * 3600)
        assert device.restarts == []
        await device.until(28 * 3600)
        ((when, _),) = device.restarts
        assert 27.5 * 3600 <= when <= 27.5 * 3600 + 302
        device.task.cancel()

    run_alone(body())


def test_who_cannot_restart_by_itself_is_never_ready(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now(), by_itself=False)
        device.together.others = (11,)
        device.stage("2.0.0")
        await device.until(1)
        assert len(device.restarts) == 1  # to be told why it waits
        assert not device.together.ready
        device.task.cancel()

    run_alone(body())


def test_a_restart_that_could_not_begin_keeps_no_other_ready(tmp_path: Path) -> None:
    async def body() -> None:
        device = ActivationCase(tmp_path, Now())
        device.vain = 1
        device.stage("2.0.0")
        await device.until(1)
        assert not device.together.ready
        device.task.cancel()

    run_alone(body())
