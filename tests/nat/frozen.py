"""The freeze attack on real devices: how long until they have a release, in peace and besieged (``freezing``).

Each run is two fleets of their own in one DHT of 150 nodes, at the same time, one of which is besieged before its first
device starts. Two devices look already when a third one starts that has the release and the owner's word about it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tests.nat.fleet import NEW, OLD, LabDevice, LabFleet, build_program
from tests.nat.freezing import Freeze, start_freeze
from tests.nat.lab import Lab, open_lab
from tests.nat.public_dht import start_dht
from tests.nat.sites import build_site

__all__ = ["LOOK", "Frozen", "freeze", "shown"]

LOOK = 6.0
"""Seconds between two looks of these devices; the attacker writes each second."""
_SETTINGS = {"PYPATCHER_LOOK_INTERVAL": f"{LOOK:g}", "PYPATCHER_PUBLISH_INTERVAL": f"{LOOK:g}"}
_SEEKERS = ("public", "easy")
_HOLDER = "easy"
_MORE = 130
_BESIEGED_FIRST = 6.0
"""Seconds in which the attacker's ids become known and devices look once."""
_PATIENCE = 480.0
_SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class Frozen:
    """What came of one run: seconds from the holder's start until each device ran the release.

    Attributes:
        peace, siege: None for a device that did not in 480 s.
        asked: how often the attacker's nodes were asked for something.
        junked: how often a node took his junk for a slot.
    """

    peace: list[float | None]
    siege: list[float | None]
    asked: int
    junked: int

    @property
    def has_thawed(self) -> bool:
        """Whether every device has the release, and the attacker was there."""
        return None not in (*self.peace, *self.siege) and min(self.asked, self.junked) > 0

    @property
    def is_slow(self) -> bool:
        """Whether the besieged fleet took more than twice the time of the other one, and a look."""
        peace, siege = ([_PATIENCE if when is None else when for when in times] for times in (self.peace, self.siege))
        return max(siege) > 2 * max(peace) + LOOK


async def freeze(runs: int, side_by_side: int = _SIDE_BY_SIDE) -> list[Frozen]:
    """So many runs in one lab."""
    with open_lab() as world:
        programs, bootstrap = build_program(world.folder), await asyncio.to_thread(start_dht, world, _MORE)
        gate = asyncio.Semaphore(side_by_side)

        async def one(number: int) -> Frozen:
            async with gate:
                fleets = [LabFleet(world, programs, bootstrap, f"{kind}{number}") for kind in ("peace", "siege")]
                (peace, _), (siege, attacked) = await asyncio.gather(
                    _run(world, fleets[0], None), _run(world, fleets[1], 6 * number)
                )
                return Frozen(peace, siege, *attacked)

        return list(await asyncio.gather(*map(one, range(runs))))


async def _run(world: Lab, fleet: LabFleet, network: int | None) -> tuple[list[float | None], tuple[int, int]]:
    attacker, attacked, times = None, (0, 0), list[float | None]()
    if network is not None:
        release = fleet.release(NEW).to_postcard().hex()
        attack = Freeze(fleet.public_key, fleet.target, release, fleet.bootstrap, network)
        attacker = await asyncio.to_thread(start_freeze, world, attack)
    try:
        sites = [build_site(world, kind) for kind in (*_SEEKERS, _HOLDER)]
        old, new = fleet.word(OLD), fleet.word(NEW)
        seekers = [
            await fleet.start(site.hosts[0], f"seeker{number}", OLD, old, **_SETTINGS)
            for number, site in enumerate(sites[:-1])
        ]
        await asyncio.sleep(_BESIEGED_FIRST)
        begin = time.monotonic()
        await fleet.start(sites[-1].hosts[0], "holder", NEW, new, **_SETTINGS)
        found = await asyncio.gather(*(seeker.until(LabDevice.runs_new, _PATIENCE) for seeker in seekers))
        times = [None if when is None else when - begin for when in found]
    finally:
        await fleet.stop()
        if attacker is not None:
            said, _ = await asyncio.to_thread(attacker.communicate, timeout=60)
            asked, junked = map(int, said.split())
            attacked = asked, junked
    return times, attacked


def shown(runs: Sequence[Frozen]) -> str:
    """For people: a line a run, and the middle of all."""
    lines = [f"{'run':<7} {'in peace s':>16} {'besieged s':>16}  his nodes were asked, nodes took junk"]
    for number, each in enumerate(runs, start=1):
        lines.append(f"{number:<7} {_list(each.peace):>16} {_list(each.siege):>16}  {each.asked:>20} {each.junked:>16}")
    middles = [
        statistics.median([_PATIENCE if when is None else when for each in runs for when in kind(each)])
        for kind in (lambda each: each.peace, lambda each: each.siege)
    ]
    lines.append(f"{'middle':<7} {middles[0]:16.1f} {middles[1]:16.1f}")
    return "\n".join(lines)


def _list(times: Sequence[float | None]) -> str:
    return " ".join("never" if when is None else f"{when:7.1f}" for when in times)
