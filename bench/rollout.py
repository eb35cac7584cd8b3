"""A rollout through real processes in real time: a share, the brake, and all; it ends by itself.

    make rollout DEVICES=40                                      # of today's code, which look every 10 s
    python -m bench.rollout --new 10 --old 10 --look shipped     # half of the code before manifests, half an hour

Devices are ``pypatcher run`` processes with fixed numbers and a private DHT on this machine; one more has the release.
The owner signs it held, then steps of a quarter and a half with their brake, and locks the key away: ``pypatcher
publish`` opens the first step, ``pypatcher publish app.hold`` stops it, and steps that go on after that are refused.
Then the key opens a half and all. Of each word it is awaited that all know it and that whom the formula names has the
release; then, for three looks more, two minutes at most, that nobody else takes it. The older code should have it with
the last word and not before. Ends with status 1 if anything else came about, or a word was not known to all within four
looks after it was published.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path

from pypatcher.artifact.beside import write_manifest, write_steps
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, next_word, steps_and_brake
from pypatcher.artifact.terms import ALL, Hold
from tests.support.mixed_fleet import MixedFleet, open_mixed, until
from tests.support.updates import KEY, NEW

QUARTER, HALF = 2500, 5000
_LOOKS, _LOOKS_AFTER = 4, 3
_LONGEST_AFTER = 120.0
_EARLY_LOOK, _LATE_LOOK = 55.0, 300.0
_MEGABYTE = 1 << 20
_PATIENCE = 300.0
"""Seconds that a transfer and a restart may take beside, on a machine with other work."""


@dataclass
class _Watch:
    """What became of each word.

    Attributes:
        look: seconds between two looks of a device; None: as shipped.
        within: looks in which a word has to be known to all; None: it may take as long as it likes.
        wrong: what was not as it should be.
    """

    fleet: MixedFleet
    look: float | None
    within: float | None
    began: float = field(default_factory=time.monotonic)
    wrong: list[str] = field(default_factory=list)

    @property
    def pause(self) -> float:
        """Seconds until the next look of any device that is up by now."""
        late = time.monotonic() - self.began > 600.0
        return self.look or (_LATE_LOOK if late else _EARLY_LOOK)

    async def see(self, name: str, word: ManifestFile, share: int, said: Awaitable[object] | None = None) -> None:
        """Say a word, wait until all know it and do what it says; nobody does more."""
        fleet, began, pause = self.fleet, time.monotonic(), self.pause
        expected = fleet.names if share == ALL else fleet.named(share)
        heard = done = None
        if said is not None:
            await said
        published = time.monotonic() - began
        while heard is None or done is None:
            now = time.monotonic() - began
            heard = now if heard is None and fleet.know(word) else heard
            done = now if done is None and fleet.updated() == expected else done
            if now > _LOOKS * pause + _PATIENCE or fleet.updated() - expected:
                break
            await asyncio.sleep(0.2)
        if heard is None or (self.within is not None and heard > published + self.within * pause):
            self.wrong.append(f"{name}: not known to all within {_LOOKS} looks")
        await asyncio.sleep(min(_LOOKS_AFTER * pause, _LONGEST_AFTER))
        if others := fleet.updated() ^ expected:
            self.wrong.append(f"{name}: {', '.join(sorted(others))}")
        known, had = ("never" if when is None else f"{when:.0f} s" for when in (heard, done))
        print(f"{name:<22} {known:>12} {had:>12} {len(fleet.updated()):>9} {len(expected):>9}", flush=True)


async def roll_out(watch: _Watch) -> None:
    """Say one word after another."""
    fleet = watch.fleet
    first = fleet.word(Change(hold=Hold.HELD))
    steps, brake = steps_and_brake(first, KEY, [QUARTER, HALF], Change(stable=None), made=0)
    write_steps(fleet.desk / "app.steps", steps)
    write_manifest(fleet.desk / "app.hold", brake, replace=True)
    step_by_step = fleet.publish_command(fleet.desk / "app.steps", "--each", "1d")
    print(f"{'the word':<22} {'all know it':>12} {'done':>12} {'have it':>9} {'named':>9}", flush=True)
    await until(lambda: all(fleet.said(name, "node.started") for name in fleet.names), "all have started")
    fleet.hold(NEW, is_old=False, word=first)
    await watch.see("held", first, 0)
    machine = await asyncio.create_subprocess_exec(*step_by_step, stdout=subprocess.DEVNULL)
    try:
        await watch.see("a quarter, by steps", steps[0], QUARTER)
    finally:
        machine.terminate()
        await machine.wait()
    await watch.see("the brake", brake, QUARTER, _run(watch, fleet.publish_command(fleet.desk / "app.hold")))
    if not await _run(watch, step_by_step, fails=True):
        return
    await watch.see("steps after the brake", brake, QUARTER)
    half = next_word(brake, KEY, Change(share=HALF, hold=Hold.GO_ON), made=0)
    for name, word, share in (("a half", half, HALF), ("all", next_word(half, KEY, Change(share=ALL), made=0), ALL)):
        await watch.see(name, word, share, asyncio.to_thread(fleet.publish, word))


async def _run(watch: _Watch, command: list[str], *, fails: bool = False) -> bool:
    """A command of the owner's to its end; False where it ended in another way than it should."""
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
    if bool(done.returncode) != fails:
        watch.wrong.append(f"{' '.join(command[3:5])} ended with {done.returncode}: {done.stderr}")
    return bool(done.returncode) == fails


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


def _look(text: str) -> float | None:
    return None if text == "shipped" else float(text)


async def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--new", type=int, default=40)
    parser.add_argument("--old", type=int, default=0)
    parser.add_argument("--look", type=_look, default=10.0, help="seconds between looks, or shipped (default: 10)")
    parser.add_argument("--no-hurry", action="store_true", help="words may be known as late as they like")
    options = parser.parse_args()
    look = "" if options.look is None else f"{options.look:g}"
    variables = {"PYPATCHER_LOOK_INTERVAL": look, "PYPATCHER_PUBLISH_INTERVAL": look}
    with tempfile.TemporaryDirectory() as folder:
        async with open_mixed(Path(folder), old=options.old, new=options.new, variables=variables) as fleet:
            watch = _Watch(fleet, options.look, None if options.no_hurry else _LOOKS)
            await roll_out(watch)
            _tell_costs(fleet, time.monotonic() - watch.began)
    print("as the owner said" if not watch.wrong else "\n".join(["NOT as the owner said:", *watch.wrong]))
    return int(bool(watch.wrong))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
