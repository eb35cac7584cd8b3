"""Several instances of one file, as real processes: they restart together into the new version, on one trial.

No process runs from a file that was changed under it, so a release waits for the last one; none restarts for nothing.
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from typing import Any

import pytest

from pypatcher.keys import encode_key
from tests.support.packagings import REPOSITORY, wait_until
from tests.support.updates import KEY, NEW, OLD, Make, Program, command_of

pytestmark = pytest.mark.timeout(2400)

QUICK = {"QUICK_LOOKS": "600"}
IMPATIENT = {"QUICK_LOOKS": "2"}


def status(device: Program) -> tuple[int, dict[str, Any]]:
    key = encode_key(KEY.public)
    command = [sys.executable, "-m", "pypatcher", "status", str(device.path), "--public-key", key, "--json"]
    environment = {"PYPATCHER_ALLOW_VOLATILE": "1"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment, cwd=REPOSITORY)
    return done.returncode, json.loads(done.stdout)


def trial_of(device: Program) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((device.path.parent / ".app.pypatcher" / "trial.json").read_text())["trial"]
    return found


def versions(device: Program) -> list[str]:
    return [start["version"] for start in device.said("starts")]


async def end(device: Program) -> None:
    (device.state / "end").touch()
    await asyncio.to_thread(device.wait_for_end)
    assert "Traceback" not in device.text("errors")


async def test_all_instances_restart_together_on_one_trial(fleet: Make, packaging: str) -> None:
    device = await fleet(packaging)
    for _ in range(3):
        device.start(*command_of(packaging), **QUICK)
    await asyncio.to_thread(device.wait_for, "starts", 6)
    assert versions(device) == [OLD] * 3 + [NEW] * 3
    trial = trial_of(device)
    assert (trial["version"], trial["failed"]) == (NEW, 0)
    assert [event["event"] for event in device.said("events")].count("release.staged") == 1
    assert device.path.read_bytes() == device.built[NEW]
    await end(device)
    assert versions(device) == [OLD] * 3 + [NEW] * 3
    assert device.left_behind() == []


async def test_none_restarts_before_the_last_one_is_ready(fleet: Make) -> None:
    device = await fleet("zipapp")
    device.start(*command_of("zipapp"), **IMPATIENT)
    holding = device.start(*command_of("zipapp", "--hold"), **QUICK)
    waits = await asyncio.to_thread(device.wait_for_event, "restart.waits")
    assert f"process {holding.pid}" in waits["reason"]
    assert versions(device) == [OLD] * 2
    assert device.path.read_bytes() == device.built[OLD]
    holding.send_signal(signal.SIGTERM)  # the last of the old ones stops
    await asyncio.to_thread(device.wait_for, "starts", 3)
    device.start(*command_of("zipapp", "--hold"), **QUICK)
    await asyncio.to_thread(device.wait_for, "starts", 4)
    assert versions(device) == [OLD] * 2 + [NEW] * 2
    await end(device)


async def test_one_that_starts_waits_for_those_that_are_ready(fleet: Make) -> None:
    device = await fleet("zipapp")
    device.start(*command_of("zipapp"), **QUICK)
    holding = device.start(*command_of("zipapp", "--hold"), **QUICK)
    await asyncio.to_thread(device.wait_for_event, "release.staged")
    await asyncio.to_thread(
        wait_until, lambda: any(one["ready"] for one in status(device)[1]["instances"]), "one that is ready"
    )
    # As a service manager restarts it.
    holding.send_signal(signal.SIGTERM)
    await asyncio.to_thread(holding.wait)
    device.start(*command_of("zipapp", "--hold"), **QUICK)
    await asyncio.to_thread(device.wait_for, "starts", 4)
    assert versions(device) == [OLD] * 2 + [NEW] * 2
    assert trial_of(device)["failed"] == 0
    await end(device)


async def test_one_that_was_loaded_before_begins_as_the_new_one(fleet: Make, packaging: str) -> None:
    """Between its first instruction and its node another instance changes the file."""
    device = await fleet(packaging)
    device.start(*command_of(packaging, "--late"), **QUICK)
    await asyncio.to_thread(device.wait_for, "loaded")
    device.start(*command_of(packaging), **QUICK)
    await asyncio.to_thread(device.wait_for, "starts", 2)
    assert versions(device) == [OLD, NEW]
    (device.state / "go").touch()
    await asyncio.to_thread(device.wait_for, "starts", 3)
    assert versions(device) == [OLD, NEW, NEW]
    assert trial_of(device)["failed"] == 0
    await end(device)


async def test_status_says_that_all_have_to_stop(fleet: Make) -> None:
    device = await fleet("zipapp")
    one, two = (device.start(*command_of("zipapp", "--hold"), **QUICK) for _ in range(2))
    await asyncio.to_thread(device.wait_for_event, "release.staged")
    await asyncio.to_thread(wait_until, lambda: status(device)[1]["staged"] == NEW, "what is staged")
    code, said = status(device)
    assert code == 1
    assert any("stop all" in need for need in said["needs"])
    assert {each["pid"] for each in said["instances"]} == {one.pid, two.pid}
    one.send_signal(signal.SIGTERM)
    await asyncio.to_thread(one.wait)
    again = device.start(*command_of("zipapp", "--hold"), **QUICK)
    await asyncio.to_thread(device.wait_for, "starts", 3)
    assert versions(device) == [OLD] * 3
    for process in (two, again):
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait)
    for count in (4, 5):
        device.start(*command_of("zipapp", "--hold"), **QUICK)
        await asyncio.to_thread(device.wait_for, "starts", count)
    assert versions(device) == [OLD] * 3 + [NEW] * 2
    await end(device)


async def test_native_instances_under_run_restart_together(fleet: Make) -> None:
    device = await fleet("elf")
    run = [sys.executable, "-m", "tests.support.quick_run", "run", "--public-key", encode_key(KEY.public), "--"]
    runs = [device.start(*run, "./app", "stay", PYTHONPATH=str(REPOSITORY)) for _ in range(2)]

    def started() -> list[str]:
        return [line.split()[0] for line in device.text("log").splitlines()]

    await asyncio.to_thread(wait_until, lambda: len(started()) == 4, "four starts")
    assert started() == [OLD] * 2 + [NEW] * 2
    assert trial_of(device)["failed"] == 0
    for process in runs:
        process.terminate()
        assert await asyncio.to_thread(process.wait, 30) == -signal.SIGTERM
    assert started() == [OLD] * 2 + [NEW] * 2
    await asyncio.to_thread(device.wait_for_end)


async def test_guarded_instances_of_a_service_restart_together(fleet: Make, onefile: str) -> None:
    device = await fleet(onefile)
    guard = f"{sys.executable} -m pypatcher guard --public-key {encode_key(KEY.public)} {device.path}"
    unit = f"while {guard}; ./app; [ $? = 86 ]; do :; done"
    for _ in range(2):
        device.start("sh", "-c", unit, **QUICK, PYPATCHER_RESTART_STATUS="86", PYTHONPATH=str(REPOSITORY))
    await asyncio.to_thread(device.wait_for, "starts", 4)
    assert versions(device) == [OLD] * 2 + [NEW] * 2
    # Two guards outside of units cannot be told apart: one may take the other's start for ended.
    assert trial_of(device)["failed"] <= 1
    await end(device)
    assert versions(device) == [OLD] * 2 + [NEW] * 2


async def test_what_a_person_staged_takes_over_while_it_runs(fleet: Make) -> None:
    device = await fleet("zipapp")
    device.start(*command_of("zipapp"), **QUICK, PYPATCHER_BOOTSTRAP="", PYPATCHER_LAN="0")
    await asyncio.to_thread(device.wait_for, "starts")
    from_stick = device.state / "app-2.0.0"
    from_stick.write_bytes(device.built[NEW])
    stage = [sys.executable, "-m", "pypatcher", "stage", str(from_stick), str(device.path)]
    await asyncio.to_thread(subprocess.check_call, stage)
    await asyncio.to_thread(device.wait_for, "starts", 2)
    assert versions(device) == [OLD, NEW]
    assert trial_of(device)["version"] == NEW
    await end(device)
