"""How long many devices take for one release behind one seed of 10 Mbit/s: from each other, and each from it alone.

Real exchange, meetings, updater, budgets and QUIC, on virtual time (`tests/support/swarm_fleet.py`): the seed's line is
its upload limit, of 1.25 MB/s; devices have the usual limits, each at an address of its own, and know 8 others. The
release is new from the first to the last byte. With `--lan` all are in one LAN behind one router, whose bytes count.

    python -m bench.swarm [--megabytes 16] [--devices 1,5,20,100] [--lan 20] [--alone]

`--alone` measures what each device fetching the whole from the seed takes as well; else the least that it can take is
told: what the line needs for so many copies.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from pypatcher.budgets import UploadLimiter
from tests.support.node_fakes import run_alone
from tests.support.swarm_fleet import SwarmFleet

RATE = 1_250_000
SEED = ("20.0.0.1", 6881)


async def fetch(size: int, devices: int, *, in_lan: bool = False, is_alone: bool = False) -> tuple[list[float], float]:
    """Seconds until each has it, and how many copies left the seed or, of a LAN, came through its router."""
    with tempfile.TemporaryDirectory() as folder:
        async with SwarmFleet(Path(folder), size) as fleet:
            seed = await fleet.seed(SEED, RATE, daily_factor=devices + 20)
            for number in range(devices):
                address = f"192.168.1.{2 + number}" if in_lan else f"30.{number}.0.1"
                device = await fleet.device((address, 6881))
                if is_alone:
                    device.knows = ()
                    device.speaker.shelf.limiter = UploadLimiter(0)
            seconds = await fleet.all_have_it(7 * 86_400.0)
            sent = seed.shelf.limiter._sent.total(["all"], 0.0)["all"]
            return seconds, (fleet.network.crossed["1"] if in_lan else sent) / size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=16.0)
    parser.add_argument("--devices", default="1,5,20")
    parser.add_argument("--lan", type=int, default=0)
    parser.add_argument("--alone", action="store_true")
    options = parser.parse_args()
    size, one = int(options.megabytes * 1e6), 0.0
    print(f"{size} bytes behind {RATE * 8 / 1e6:g} Mbit/s")
    print("| devices | half have it | all | times one | copies from the seed | each from the seed | simulated in |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for count in map(int, options.devices.split(",")):
        began = time.perf_counter()
        seconds, copies = run_alone(fetch(size, count))
        one = one or seconds[-1] / (1 if count == 1 else seconds[-1] / (size / RATE))
        alone = f"{size * count / RATE:.0f} s at least"
        if options.alone:
            alone = f"{run_alone(fetch(size, count, is_alone=True))[0][-1]:.1f} s"
        print(
            f"| {count} | {seconds[count // 2]:.1f} s | {seconds[-1]:.1f} s | {seconds[-1] / one:.2f} | {copies:.2f} "
            f"| {alone} | {time.perf_counter() - began:.0f} s |",
            flush=True,
        )
    if options.lan:
        seconds, copies = run_alone(fetch(size, options.lan, in_lan=True))
        print(f"{options.lan} in one LAN: {seconds[-1]:.1f} s, {copies:.2f} copies through the router")


if __name__ == "__main__":
    main()
