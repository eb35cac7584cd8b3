"""Devices on one switch without router, name service or DHT, let alone the Internet, update each other all the same."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from pypatcher.artifact.rollout import Change
from pypatcher.artifact.terms import Hold
from tests.nat.fleet import NEW, OLD, LabDevice, LabFleet, build_program, tell_story
from tests.nat.lab import Lab, open_lab
from tests.nat.sites import Host

pytestmark = pytest.mark.timeout(240)

_PATIENCE = 160.0
_HELD = Change(hold=Hold.HELD)
_NETWORKS = {"IPv4": "192.168.9.{}", "IPv6": "fd00:9::{}"}
# Entry points as every device has them, which nobody here can find.
_BOOTSTRAP = "router.bittorrent.com:6881"


@dataclass(frozen=True)
class LanReport:
    """Whether the seeker updated, and what ``netcheck`` said beside the two."""

    updated: bool
    story: str
    netcheck: dict[str, Any]


def _build_switch(world: Lab, name: str) -> str:
    switch = world.namespace(f"switch{name}")
    world.ip(switch, "link add lan0 type bridge mcast_snooping 0", "link set lan0 up")
    return switch


def _plug_in(world: Lab, switch: str, number: int, address: str) -> Host:
    host = world.namespace(f"{switch.rpartition('-')[2]}device{number}")
    world.link(switch, f"port{number}", host, "eth0")
    world.ip(switch, f"link set port{number} master lan0")
    is_v6 = ":" in address
    world.ip(host, f"addr add {address}/{64 if is_v6 else 24} dev eth0")
    return Host(host, "[::]:0" if is_v6 else "0.0.0.0:0", address)


async def _run(world: Lab, programs: dict[str, Any], name: str) -> LanReport:
    switch = _build_switch(world, name)
    hosts = [_plug_in(world, switch, number, _NETWORKS[name].format(number)) for number in (1, 2, 3)]
    fleet = LabFleet(world, programs, _BOOTSTRAP, name)
    begin = asyncio.get_running_loop().time()
    try:
        seeker = await fleet.start(hosts[0], "seeker", OLD)
        holder = await fleet.start(hosts[1], "holder", NEW)
        updated = await seeker.until(LabDevice.runs_new, _PATIENCE) is not None
        said = await _netcheck(world, fleet, hosts[2])
        return LanReport(updated, tell_story(begin, seeker, holder), said)
    finally:
        await fleet.stop()


async def _netcheck(world: Lab, fleet: LabFleet, host: Host) -> dict[str, Any]:
    process = await asyncio.create_subprocess_exec(
        *world.enter(host.namespace),
        *(sys.executable, "-m", "pypatcher", "netcheck", "--json", "--timeout", "1", "--public-key", fleet.public_key),
        env=fleet.environment(host, "netcheck"),
        stdout=subprocess.PIPE,
    )
    out, _ = await process.communicate()
    said: dict[str, Any] = json.loads(out)
    return said | {"status": process.returncode}


async def _run_all() -> dict[str, LanReport]:
    with open_lab() as world:
        programs = build_program(world.folder)
        told = await asyncio.gather(*(_run(world, programs, name) for name in _NETWORKS))
        return dict(zip(_NETWORKS, told, strict=True))


@pytest.fixture(scope="module")
def told() -> dict[str, LanReport]:
    return asyncio.run(_run_all())


@pytest.mark.parametrize("name", _NETWORKS)
def test_two_devices_on_one_switch_update_each_other(name: str, told: dict[str, LanReport]) -> None:
    assert told[name].updated, told[name].story


@pytest.mark.parametrize("name", _NETWORKS)
def test_netcheck_reaches_neighbours_and_says_there_is_no_internet(name: str, told: dict[str, LanReport]) -> None:
    said = told[name].netcheck
    assert (said["works"], said["status"]) == (False, 1)
    assert (said["multicast"], said["neighbours"], said["heard"], said["reached"]) == (True, 2, 2, 2), said


async def _hold() -> str:
    """What went wrong on a switch where one device says a hold, another has the release, and a third says go on."""
    with open_lab() as world:
        switch, programs = _build_switch(world, "hold"), build_program(world.folder)
        hosts = [_plug_in(world, switch, number, _NETWORKS["IPv4"].format(number)) for number in range(1, 5)]
        fleet = LabFleet(world, programs, "", "hold")
        words = fleet.word(NEW), fleet.word(NEW, _HELD), fleet.word(NEW, _HELD, Change(hold=Hold.GO_ON))
        begin = time.monotonic()
        try:
            seeker = await fleet.start(hosts[0], "seeker", OLD, words[0])
            await fleet.start(hosts[1], "knows of the hold", OLD, words[1])
            if not await _comes_true(lambda: seeker.word_seq() == words[1].seq):
                return f"the hold was not heard\n{tell_story(begin, *fleet.devices)}"
            holder = await fleet.start(hosts[2], "holder", NEW, words[0])
            if not await _comes_true(lambda: holder.word_seq() == words[1].seq):
                return f"the holder did not hear of the hold\n{tell_story(begin, *fleet.devices)}"
            if seeker.runs_new() is not None:
                return f"the hold did not count\n{tell_story(begin, *fleet.devices)}"
            await fleet.start(hosts[3], "knows its end", OLD, words[2])
            if await seeker.until(LabDevice.runs_new, _PATIENCE) is None:
                return f"its end was not heard\n{tell_story(begin, *fleet.devices)}"
            return ""
        finally:
            await fleet.stop()


async def _comes_true(condition: Callable[[], bool]) -> bool:
    """Wait for what the devices do."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while not condition():
                await asyncio.sleep(0.1)
            return True
    return False


def test_a_hold_and_its_end_pass_through_a_lan_without_dht() -> None:
    assert not (wrong := asyncio.run(_hold())), wrong
