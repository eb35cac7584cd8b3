"""A rollout through real processes in real time, at the intervals as shipped: half an hour by default.

    python -m bench.rollout                           # 10 devices of today's code, 10 of the code before manifests
    python -m bench.rollout --new 20 --old 0 --minutes 20

Devices are ``pypatcher run`` processes with a private DHT on this machine. One more has the release, and the first word
beside it; the others come by ``pypatcher publish``: held, a quarter, on hold again, a half, all. After each it is
awaited who should have the release by then, and that nobody else has it; the older code should have it with the last
word and not before. At the end each process's memory and processor time are told, for they should be idle. Ends with
status 1 if anything else came about.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from pathlib import Path

from pypatcher.artifact.rollout import Change, next_word
from pypatcher.artifact.terms import ALL, Hold
from tests.support.mixed_fleet import MixedFleet, open_mixed
from tests.support.updates import KEY, NEW

SHIPPED = {"PYPATCHER_LOOK_INTERVAL": "", "PYPATCHER_PUBLISH_INTERVAL": ""}
"""In place of the short intervals of tests."""
QUARTER, HALF = 2500, 5000
WORDS = [
    ("held", Change(hold=Hold.HELD), 0),
    ("a quarter", Change(share=QUARTER, hold=Hold.GO_ON, stable=None), QUARTER),
    ("held again", Change(hold=Hold.HELD), QUARTER),
    ("a half", Change(share=HALF, hold=Hold.GO_ON), HALF),
    ("all", Change(share=ALL), ALL),
]
_MEGABYTE = 1 << 20


async def roll_out(fleet: MixedFleet, minutes: float) -> bool:
    """Say one word after another; whether everybody did what it says."""
    each, word, is_right = 60.0 * minutes / len(WORDS), None, True
    for name, change, share in WORDS:
        began = time.monotonic()
        if word is None:
            word = fleet.word(change)
            fleet.hold(NEW, is_old=False, word=word)
        else:
            word = next_word(word, KEY, change, made=0)
            await asyncio.to_thread(fleet.publish, word)
        expected = fleet.names if share == ALL else fleet.named(share)
        heard, had = None, None
        while (now := time.monotonic() - began) < each:
            heard = now if heard is None and fleet.know(word) else heard
            had = now if had is None and fleet.updated() == expected else had
            await asyncio.sleep(1.0)
        is_right &= heard is not None and fleet.updated() == expected
        known = "not known to all" if heard is None else f"known to all after {heard:.0f} s"
        done = "not done" if had is None else f"done after {had:.0f} s"
        wrong = ", ".join(sorted(fleet.updated() ^ expected)) or "nobody"
        print(f"{name:<11} {known}, {done}; {len(fleet.updated())} have it, wrong: {wrong}", flush=True)
    return is_right


def _used(pid: int) -> tuple[float, float]:
    """Seconds of processor and MB of memory of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK"), int(fields[21]) * os.sysconf("SC_PAGESIZE") / _MEGABYTE


def _tell_costs(fleet: MixedFleet, seconds: float) -> None:
    for kind in ("old", "new"):
        programs = [device for name, device in fleet.devices.items() if name.startswith(kind)]
        used = [max(map(_used, program.processes())) for program in programs]
        if used:
            processor, memory = (sorted(values) for values in zip(*used, strict=True))
            share = 100 * processor[len(used) // 2] / seconds
            print(f"{kind} code: {share:.2f} % of a core, {memory[-1]:.0f} MB at most", flush=True)


async def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--new", type=int, default=10)
    parser.add_argument("--old", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=30.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        async with open_mixed(Path(folder), old=options.old, new=options.new, variables=SHIPPED) as fleet:
            began = time.monotonic()
            is_right = await roll_out(fleet, options.minutes)
            _tell_costs(fleet, time.monotonic() - began)
    print("as the owner said" if is_right else "NOT as the owner said")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
