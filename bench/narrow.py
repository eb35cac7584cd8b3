"""The same as ``bench.swarm`` on real sockets: one seed behind a line of 10 Mbit/s, and 1, 5 and 20 devices.

Real processes (`pypatcher run`), each at a public address in a network namespace of its own; the seed's line out is
``tbf``, every other one is as fast as the machine. All have run the old release for some minutes, as a fleet has, so
that they know some of each other; then the seed is started with one that is new from the first to the last byte.
Counted is from the first device's ``fetch.started`` to each one's ``release.staged``. Needs root, ``ip``, ``tc``, gcc.

    python -m bench.narrow [--megabytes 24] [--devices 1,5,20] [--mbit 10] [--warm-up 600]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.nat.fleet import NEW, OLD, LabDevice, LabFleet, build_program
from tests.nat.lab import Lab, open_lab
from tests.nat.public_dht import start_dht
from tests.nat.sites import PORT, Host, Site, build_site

_PATIENCE = 1200.0
_QUEUE_MS = 100
_NO_LIMIT = "1000000000"


def _programs(folder: Path, size: int) -> dict[str, Path]:
    """The C example in both versions, each with so many bytes of noise of its own."""
    programs = build_program(folder)
    for version, program in programs.items():
        noise = folder / f"noise-{version}"
        noise.write_bytes(os.urandom(size))
        subprocess.run(["objcopy", "--add-section", f".noise={noise}", program], check=True)
    return programs


def _move_out(world: Lab, site: Site) -> Host:
    """The host of a site, at an address in a /16 of its own: what is limited by networks is not all one network."""
    (host,), address = site.hosts, f"22.{site.number}.0.1"
    world.ip(world.internet, f"route add {address}/32 via {host.address}")
    world.ip(host.namespace, f"addr add {address}/32 dev wan0")
    return Host(host.namespace, f"{address}:{PORT}", address)


def _sent(world: Lab, host: str) -> int:
    """Bytes that left by a host's line."""
    for line in world.run(host, ["cat", "/proc/net/dev"]).splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "wan0":
            return int(counters.split()[8])
    raise SystemExit("the seed has no line")


def _first(device: LabDevice, name: str) -> float | None:
    return next((when for when, event in device.events if event["event"] == name), None)


async def fetch(
    world: Lab, programs: dict[str, Path], bootstrap: str, hosts: Sequence[Host], warm_up: float
) -> tuple[list[float], int]:
    """Seconds from the first request until each has the release, and bytes that left the seed in that time."""
    seed, *others = hosts
    fleet = LabFleet(world, programs, bootstrap, f"of{len(others)}")
    try:
        old, *devices = [await fleet.start(host, host.address, OLD) for host in hosts]
        word, before = fleet.word(NEW), _sent(world, seed.namespace)
        await asyncio.sleep(warm_up)
        await old.stop()
        await fleet.start(seed, "seed", NEW, word, PYPATCHER_UPLOAD=_NO_LIMIT)
        staged = await asyncio.gather(
            *(device.until(lambda each: _first(each, "release.staged"), _PATIENCE) for device in devices)
        )
        sent = _sent(world, seed.namespace) - before
        began = [when for device in devices if (when := _first(device, "fetch.started")) is not None]
        if None in staged:
            raise SystemExit(f"{staged.count(None)} of {len(staged)} devices did not get it")
        return sorted(when - min(began) for when in staged if when is not None), sent
    finally:
        await fleet.stop()


async def main() -> None:
    """Run as the command line says, and print a row for each number of devices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=24.0)
    parser.add_argument("--devices", default="1,5,20")
    parser.add_argument("--mbit", type=float, default=10.0)
    parser.add_argument("--warm-up", type=float, default=600.0, help="seconds")
    options = parser.parse_args()
    if shutil.which("tc") is None or shutil.which("objcopy") is None:
        sys.exit("this needs tc (iproute2) and objcopy (binutils)")
    counts = [int(count) for count in options.devices.split(",")]
    size, one = int(options.megabytes * 1e6), 0.0
    with open_lab() as world:
        programs, bootstrap = _programs(world.folder, size), start_dht(world)
        hosts = [_move_out(world, build_site(world, "public")) for _ in range(1 + max(counts))]
        line = ["rate", f"{options.mbit}mbit", "burst", "3000", "latency", f"{_QUEUE_MS}ms"]
        world.run(hosts[0].namespace, ["tc", "qdisc", "add", "dev", "wan0", "root", "tbf", *line])
        print(f"{size} bytes behind {options.mbit:g} Mbit/s")
        print("| devices | half have it | all | times one | copies from the seed | each from the seed |")
        print("| ---: | ---: | ---: | ---: | ---: | ---: |")
        for count in counts:
            seconds, sent = await fetch(world, programs, bootstrap, hosts[: 1 + count], options.warm_up)
            one = one or seconds[-1]
            row = [count, f"{seconds[len(seconds) // 2]:.1f} s", f"{seconds[-1]:.1f} s", f"{seconds[-1] / one:.2f}"]
            row += [f"{sent / size:.2f}", f"{size * count * 8e-6 / options.mbit:.0f} s at least"]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
