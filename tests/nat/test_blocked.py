"""A device whose router lets no UDP out but to DNS says so, runs on, and updates as soon as the router lets it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest

from tests.nat.fleet import NEW, OLD, LabDevice, LabFleet, build_program, tell_story
from tests.nat.lab import Lab, open_lab
from tests.nat.public_dht import start_dht
from tests.nat.sites import build_site

pytestmark = pytest.mark.timeout(600)


def _first(device: LabDevice, name: str) -> float | None:
    return next((when for when, event in device.events if event["event"] == name), None)


def _status(world: Lab, fleet: LabFleet, device: LabDevice) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "pypatcher", "status", "--json", "--public-key", fleet.public_key, device.program],
        capture_output=True,
        text=True,
        check=False,
        cwd=world.folder,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout) | {"exit": done.returncode}


async def _until_status(world: Lab, fleet: LabFleet, device: LabDevice, *, needs: bool) -> Any:
    async with asyncio.timeout(200):
        while True:
            status = await asyncio.to_thread(_status, world, fleet, device)
            if bool(status["needs"]) == needs:
                return status
            await asyncio.sleep(2)


async def test_a_device_without_udp_says_so_runs_on_and_updates_once_it_may() -> None:
    with open_lab() as world:
        programs, bootstrap = build_program(world.folder), start_dht(world)
        fleet = LabFleet(world, programs, bootstrap, "blocked")
        site = build_site(world, "blocked")
        try:
            await fleet.start(build_site(world, "public").hosts[0], "holder", NEW)
            seeker = await fleet.start(site.hosts[0], "seeker", OLD)
            silent = await seeker.until(lambda it: _first(it, "dht.silent"), 120)
            assert silent is not None, tell_story(0, seeker)
            said = seeker.event("dht.silent")
            assert said is not None
            assert "UDP" in said["reason"]
            assert seeker.process.returncode is None
            status = await _until_status(world, fleet, seeker, needs=True)
            assert status["exit"] == 1
            assert any("no DHT node answers" in need for need in status["needs"]), status
            assert sum(event["event"] == "dht.silent" for _, event in seeker.events) == 1

            world.nft(site.routers[0], "flush chain inet lab forward\n")
            assert await seeker.until(LabDevice.runs_new, 300) is not None, tell_story(silent, seeker)
            assert await seeker.until(lambda it: _first(it, "dht.joined"), 60) is not None, tell_story(silent, seeker)
            assert not (await _until_status(world, fleet, seeker, needs=False))["node"]["silent_since"]
        finally:
            await fleet.stop()
