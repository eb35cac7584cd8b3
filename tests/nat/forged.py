"""A fleet of 20 in the middle of forged addresses: the honest update passes, and a victim hardly notices.

The attacker's DHT nodes are next to the fleet's info-hashes, and his records name a holder too, before the first
device starts. Three fleets, side by side in one lab: one is told of 10,000 addresses that nobody has, two of the 100
ports of one host, which is silent or answers as a DHT node does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass

from tests.nat.fleet import NEW, OLD, LabDevice, LabFleet, build_program
from tests.nat.lab import Lab, open_lab
from tests.nat.public_dht import start_dht
from tests.nat.sites import build_site
from tests.nat.sybils import Attack, start_attack
from tests.nat.victim import start_victim

__all__ = ["FLOOD", "NODE", "SILENT", "Plot", "Suffered", "suffer", "told"]

_KINDS = ("public", "easy", "easy", "hard", "easy")
_DEVICES = 20
_PATIENCE = 1800.0  # a flood makes every fleet look large, so each pair knocks but once in 20 minutes
_SETTINGS = {"PYPATCHER_LOOK_INTERVAL": "10", "PYPATCHER_PUBLISH_INTERVAL": "20"}  # 60 devices on one machine
_STARTS_APART = 0.2
_AFTERMATH = 5.0  # who was knocked at may be dialed by then


@dataclass(frozen=True)
class Plot:
    """What an attacker names: ``forged`` addresses that nobody has, and whether a victim, which answers KRPC or not."""

    name: str
    forged: int = 0
    victim: bool = True
    answers: bool = False


FLOOD = Plot("10,000 forged addresses", forged=10_000, victim=False)
SILENT = Plot("100 addresses of a silent host")
NODE = Plot("100 addresses of a DHT node", answers=True)


@dataclass(frozen=True)
class Suffered:
    """What came of a plot.

    Attributes:
        seconds: from the last device's start until each device that was waited for ran the new version, sorted.
        minute: the most packets that the victim got in 60 seconds, from the whole fleet.
        packets: that it got in all.
        connections: how many of them were more than a knock.
        answers: how many of them it answered.
        megabytes: the most memory that a device's process ever had.
    """

    plot: Plot
    devices: int
    seconds: list[float]
    minute: int
    packets: int
    connections: int
    answers: int
    megabytes: float


async def suffer(plots: Iterable[Plot], enough: int = _DEVICES - 1) -> list[Suffered]:
    """Run them side by side, each until so many devices are updated and its victim was sent something."""
    with open_lab() as world:
        programs, bootstrap = build_program(world.folder), start_dht(world)
        runs = []
        for network, plot in enumerate(plots, start=210):
            fleet = LabFleet(world, programs, bootstrap, f"forged{network}")
            runs.append(_run(world, fleet, plot, network, enough))
        return list(await asyncio.gather(*runs))


async def _run(world: Lab, fleet: LabFleet, plot: Plot, network: int, enough: int) -> Suffered:
    victim = await start_victim(world, f"victim{network}", 100 if plot.answers else 0) if plot.victim else None
    address = victim.address if victim else ""
    release = fleet.release(NEW).to_postcard().hex()
    attack = Attack(fleet.public_key, fleet.target, release, fleet.bootstrap, plot.forged, address, network)
    attacker = await asyncio.to_thread(start_attack, world, attack)
    try:
        seekers = []
        sites = [build_site(world, _KINDS[number % len(_KINDS)]) for number in range(_DEVICES)]
        for number, site in enumerate(sites):
            device = await fleet.start(site.hosts[0], f"device{number}", NEW if number == 1 else OLD, **_SETTINGS)
            if number != 1:
                seekers.append(device)
            await asyncio.sleep(_STARTS_APART)
        begin = time.monotonic()
        times = await _first(enough, [device.until(LabDevice.runs_new, _PATIENCE) for device in seekers])
        if victim is not None and await victim.is_hit(_PATIENCE):
            await asyncio.sleep(_AFTERMATH)
        return Suffered(
            plot,
            len(seekers),
            [max(0.0, when - begin) for when in times],
            victim.most_in_a_minute if victim else 0,
            len(victim.packets) if victim else 0,
            victim.connections if victim else 0,
            victim.answers if victim else 0,
            max(device.peak_memory() for device in fleet.devices),
        )
    finally:
        await fleet.stop()
        if victim is not None:
            await victim.stop()
        assert attacker.stdin is not None
        attacker.stdin.close()
        await asyncio.to_thread(attacker.wait)


async def _first(count: int, waits: Sequence[Coroutine[object, object, float | None]]) -> list[float]:
    """The first ``count`` of these moments, or as many as come."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    found: list[float] = []
    for task in asyncio.as_completed(tasks):
        if (when := await task) is not None:
            found.append(when)
        if len(found) >= count:
            break
    for each in tasks:
        each.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return sorted(found)


def told(suffered: Iterable[Suffered]) -> str:
    """For people: a line a plot."""
    lines = [f"{'told of':<31} {'updated':>9} {'half s':>7} {'all s':>7} {'a minute':>9} packets memory"]
    for each in suffered:
        updated, half = f"{len(each.seconds)} of {each.devices}", each.seconds[len(each.seconds) // 2 :][:1]
        shown = " ".join(f"{value:7.1f}" for value in half + each.seconds[-1:])
        got = f"{each.minute:>9} {each.packets:>7}"
        lines.append(f"{each.plot.name:<31} {updated:>9} {shown:>15} {got} {each.megabytes:>3.0f} MB")
    return "\n".join(lines)
