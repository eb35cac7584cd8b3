"""Whoever stops a program that is about to restart means it: nothing is started, nothing is left."""

from __future__ import annotations

import os
import signal

from tests.support.packagings import PackagedDevice, wait_until


def test_stop_while_it_ends_wins_over_the_restart(device, packaging):
    world = device(packaging)
    world.stage(1)
    world.start("slow-end")
    wait_until(lambda: "ending" in world.notes(), "the application's last second")
    os.kill(world.starts()[0]["pid"], signal.SIGTERM)
    _assert_nothing_was_started(world)
    assert world.notes().count("stop") == 2  # the restart's, and the one that was meant
    assert "atexit registered by the application" in world.notes()
    assert world.buffered() == ["1"]
    assert world.unpacked() == []


def test_application_killed_while_it_ends_is_not_started_again(device, packaging):
    world = device(packaging)
    world.stage(1)
    world.start("slow-end")
    wait_until(lambda: "ending" in world.notes(), "the application's last second")
    os.kill(world.starts()[0]["pid"], signal.SIGKILL)
    _assert_nothing_was_started(world)
    assert world.unpacked() == []


def _assert_nothing_was_started(world: PackagedDevice) -> None:
    world.wait_for_end()
    assert len(world.starts()) == 1
    assert len(list(world.state.glob("next-*"))) == 1
