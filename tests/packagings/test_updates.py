"""Whole updates on real processes: each packaging finds, fetches, verifies, stages and restarts into the new version.

The peer is a node that has the new release; everything listens on loopback. What was imported before does not count:
modules that the old process imports only after staging, and after the restart was asked for, must still be the old
version's own.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from pypatcher.keys import encode_key
from tests.support.packagings import wait_until
from tests.support.updates import KEY, NEW, OLD, Make, command_of

pytestmark = pytest.mark.timeout(2400)  # two Nuitka builds on two slow cores


ADDED = ("_PYI_", "NUITKA_", "LD_LIBRARY_PATH")


def environment(start: dict[str, dict[str, str]]) -> dict[str, str]:
    """Without what a launcher adds for its application."""
    return {name: value for name, value in start["environment"].items() if not name.startswith(ADDED)}


async def test_updates_itself_at_once_and_loses_nothing(fleet: Make, packaging: str) -> None:
    device = await fleet(packaging)
    device.start(*command_of(packaging, "--name", "kitchen sensor", ""), COLOUR="blue")
    await asyncio.to_thread(device.wait_for, "starts", 2)
    old, new = device.said("starts")
    assert (old["version"], old["current"]) == (OLD, OLD)
    assert (new["version"], new["current"]) == (NEW, NEW)
    assert new["argv"][1:] == old["argv"][1:] == ["--name", "kitchen sensor", ""]
    assert environment(new) == environment(old)
    assert new["environment"]["COLOUR"] == "blue"
    assert new["directory"] == old["directory"]
    assert new["sockets"] == old["sockets"] == 0
    # First imported between staging and the restart: still the old version's own.
    assert device.said("late") == [{"version": OLD, "modules": ["colorsys", OLD], "at": OLD}]
    names = [event["event"] for event in device.said("events") if event["by"] == OLD]
    order = ["node.started", "release.found", "fetch.started", "release.staged", "restart"]
    assert [name for name in dict.fromkeys(names) if name in order] == order
    assert device.path.read_bytes() == device.built[NEW]
    (device.state / "end").touch()
    await asyncio.to_thread(device.wait_for_end)
    assert device.left_behind() == []
    assert "Traceback" not in device.text("errors")


async def test_staged_release_waits_for_a_start_and_late_imports_still_work(fleet: Make, packaging: str) -> None:
    device = await fleet(packaging)
    process = device.start(*command_of(packaging, "--hold"))
    await asyncio.to_thread(device.wait_for_event, "release.staged")
    (device.state / "import-late").touch()
    (late,) = await asyncio.to_thread(device.wait_for, "late")
    assert late == {"version": OLD, "modules": ["colorsys", OLD], "at": OLD}
    assert device.path.read_bytes() == device.built[OLD]
    (device.state / "end").touch()
    assert await asyncio.to_thread(process.wait, 30) == 0
    await asyncio.to_thread(device.wait_for_end)
    (device.state / "end").unlink()
    device.start(*command_of(packaging, "--hold"))
    (_, new) = await asyncio.to_thread(device.wait_for, "starts", 2)
    assert (new["version"], new["current"]) == (NEW, NEW)
    (device.state / "end").touch()
    await asyncio.to_thread(device.wait_for_end)
    assert device.path.read_bytes() == device.built[NEW]
    assert device.left_behind() == []


async def test_native_program_is_updated_while_run_stays_the_main_process(fleet: Make) -> None:
    device = await fleet("elf")
    run = [sys.executable, "-m", "pypatcher", "run", "--public-key", encode_key(KEY.public), "--"]
    process = device.start(*run, "./app", "stay", "two words", COLOUR="blue")

    def starts() -> list[list[str]]:
        return [line.split() for line in device.text("log").splitlines()]

    await asyncio.to_thread(wait_until, lambda: len(starts()) == 2, "the second start")
    (old, old_pid, *old_arguments), (new, new_pid, *new_arguments) = starts()
    assert (old, new) == (OLD, NEW)
    assert old_arguments == new_arguments == ["stay", "two", "words"]
    assert not Path(f"/proc/{old_pid}").exists()
    assert b"COLOUR=blue" in Path(f"/proc/{new_pid}/environ").read_bytes().split(b"\0")
    assert sorted(device.processes()) == sorted([process.pid, int(new_pid)])
    assert device.path.read_bytes() == device.built[NEW]
    process.terminate()
    assert await asyncio.to_thread(process.wait, 30) == -signal.SIGTERM
    await asyncio.to_thread(device.wait_for_end)
    assert device.left_behind() == []
    assert "Traceback" not in device.text("errors")


async def test_an_app_that_updates_itself_has_one_node_under_run(fleet: Make) -> None:
    device = await fleet("zipapp")
    run = [sys.executable, "-m", "pypatcher", "run", "--public-key", encode_key(KEY.public), "--"]
    process = device.start(*run, "./app")
    await asyncio.to_thread(device.wait_for, "starts", 2)
    assert [start["version"] for start in device.said("starts")] == [OLD, NEW]
    names = {event["event"] for event in device.said("events")}
    assert not names & {"node.started", "release.found", "restart"}  # it is `run` that did it
    assert device.text("errors").count("node.started") == 1
    assert "`pypatcher run` keeps this program up to date" in device.text("errors")
    process.terminate()
    await asyncio.to_thread(device.wait_for_end)
