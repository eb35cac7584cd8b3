"""60 devices in 10 LANs behind 10 routers of mixed kinds; one of them has the new release. All must get it.

``make nat-lab`` runs this after the matrix: how long it took, when each tenth had it, what crossed each router.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.nat.fleet import NEW, OLD, LabDevice, LabFleet, build_program
from tests.nat.lab import Lab, open_lab
from tests.nat.public_dht import start_dht
from tests.nat.sites import Site, build_site

__all__ = ["Spread", "spread"]

_KINDS = ("forward", "easy", "easy", "easy", "easy", "upnp", "upnp", "double", "hard", "hard")
_EACH = 6
_PATIENCE = 600.0
_STARTS_APART = 0.4


@dataclass(frozen=True)
class Spread:
    """``seconds``: from the last device's start until each device ran the new version, sorted."""

    devices: int
    seconds: list[float]
    megabytes: dict[str, float]

    def __str__(self) -> str:
        lines = [f"{len(self.seconds)} of {self.devices} devices updated"]
        for tenth in range(1, 11):
            index = len(self.seconds) * tenth // 10 - 1
            if index >= 0:
                lines.append(f"  {tenth * 10:>3} % after {self.seconds[index]:6.1f} s")
        lines += [f"  {name:<10} {size:6.2f} MB crossed the router" for name, size in self.megabytes.items()]
        return "\n".join(lines)


async def spread() -> Spread:
    """Run it; the holder is in a LAN behind an easy router."""
    with open_lab() as world:
        programs, bootstrap = build_program(world.folder), start_dht(world)
        sites = [build_site(world, kind, _EACH) for kind in _KINDS]
        hosts = [(site, index, host) for index in range(_EACH) for site in sites for host in [site.hosts[index]]]
        fleet = LabFleet(world, programs, bootstrap, "many")
        try:
            seekers = []
            for site, index, host in hosts:
                is_holder = site is sites[1] and index == 0
                device = await fleet.start(host, f"s{site.number}-{index}", NEW if is_holder else OLD)
                if not is_holder:
                    seekers.append(device)
                await asyncio.sleep(_STARTS_APART)
            begin = time.monotonic()
            times = await asyncio.gather(*(device.until(LabDevice.runs_new, _PATIENCE) for device in seekers))
            done = sorted(max(0.0, when - begin) for when in times if when is not None)
            crossed = {f"{site.kind} {site.number}": _megabytes(world, site) for site in sites}
        finally:
            await fleet.stop()
        return Spread(len(seekers), done, crossed)


def _megabytes(world: Lab, site: Site) -> float:
    """Both ways, at its line to the Internet."""
    for line in world.run(site.routers[0], ["cat", "/proc/net/dev"]).splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "wan0":
            fields = counters.split()
            return (int(fields[0]) + int(fields[8])) / 1e6
    return 0.0
