"""The story: emulated devices with an old signed program each update themselves from one native node.

On every device a C program under ``pypatcher run``, and a zipapp and a PyInstaller onefile that update themselves.
First come two hostile releases of the C program: one with the right key for the wrong machine, one for the right
machine with the wrong key; no device may take them. Then the real ones.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cross.clean import clean_environment
from cross.workshop import StepFailedError, fresh_folder, say
from qemu.device import CACHE, WORKERS, Device
from qemu.native import Native
from qemu.onefile import build_onefile
from qemu.programs import Owner, build_c, build_zipapp
from qemu.watched import Watched

__all__ = ["serve_natively", "tell"]

OLD, NEW = "1.0.0", "1.1.0"
WRONG_KEY, WRONG_MACHINE = "1.0.6", "1.0.7"
_ARGUMENTS = ("--name", "kitchen sensor")
_LOOK = 2.0
_SLOW = 600.0
"""Seconds that emulated programs may take for one step, on a machine that is busy with other things as well."""


@dataclass(frozen=True, slots=True)
class Program:
    """One program on one device: the file that is there, and the release that it should become."""

    device: Device
    kind: str
    owner: Owner
    old: Path
    new: Path
    command: tuple[str, ...]

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.device.target.name} {self.kind}"

    @property
    def installed(self) -> Path:
        """Where it is on the device, seen from the host."""
        return self.device.root / "device" / self.kind / self.new.name


def tell(devices: Sequence[Device], native: Native) -> int:
    """Let it happen; returns how many updates were seen.

    Raises:
        StepFailedError: something else happened.
    """
    work = fresh_folder(CACHE / "story")
    programs = _make_programs(devices, native, work)
    start = time.monotonic()
    with contextlib.ExitStack() as cleanup:
        environment = {
            "PYPATCHER_BIND": "127.0.1.1:0",
            "PYPATCHER_LOOK_INTERVAL": str(_LOOK),
            "PYPATCHER_PUBLISH_INTERVAL": "5",
            "PYPATCHER_LOG": "json",
        }
        command = [str(native.folder / "bin" / "pypatcher"), "testnet", "--json"]
        testnet = _watch(cleanup, "testnet", command, clean_environment())
        line = testnet.wait_for("entry points", lambda line: line.startswith("{"), _SLOW)
        environment["PYPATCHER_BOOTSTRAP"] = ",".join(json.loads(line)["bootstrap"])
        running = {}
        for program in programs:
            running[program.label] = _start(cleanup, program, environment)
        for label, process in running.items():
            process.wait_for("the old version", lambda line: f"version {OLD}" in line, _SLOW)
            process.wait_for_event(_SLOW, "node.started", version=OLD)
            say(f"{label}: {OLD} runs")
        _be_hostile(programs, running, native, work, environment)
        seeds = [_seed(program.label, program, program.new, work) for program in programs]
        with serve_natively(native, seeds, {**environment, "PYPATCHER_BIND": "127.0.3.1:0"}) as seeder:
            _all_published(seeder, seeds, NEW)
            for program in programs:
                _see_update(program, running[program.label])
                say(f"{program.label}: {NEW} runs, after {time.monotonic() - start:.0f} s")
    return len(programs)


def _make_programs(devices: Sequence[Device], native: Native, work: Path) -> list[Program]:
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(build_onefile, devices))
    programs = []
    for kind in ("c", "zipapp", "onefile"):
        owner = Owner.make(native, work / f"{kind}-keys")
        keys = [f"--public-key={device.target.name}={owner.public(device.target.name)}" for device in devices]
        for device in devices:
            name = device.target.name
            files = [
                owner.sign(_build(kind, device, native, version, work / f"{name}-{kind}-{version}"), version, name)
                for version in (OLD, NEW)
            ]
            installed = f"/device/{kind}/{files[0].name}"
            commands = {
                "c": (device.pypatcher, "run", *keys, "--", installed),
                "zipapp": (device.python, installed),
                "onefile": (installed,),
            }
            programs.append(Program(device, kind, owner, files[0], files[1], (*commands[kind], *_ARGUMENTS)))
    return programs


def _build(kind: str, device: Device, native: Native, version: str, into: Path) -> Path:
    if kind == "c":
        return build_c(device, version, into)
    if kind == "zipapp":
        return build_zipapp(device, native, version, into)
    into.mkdir()
    program = Path(shutil.copy2(build_onefile(device), into / "app"))  # built once, and taken from there
    native.pypatcher("embed", program, "--version", version)
    return program


def _start(cleanup: contextlib.ExitStack, program: Program, environment: dict[str, str]) -> Watched:
    folder = fresh_folder(program.installed.parent)
    shutil.copy2(program.old, program.installed)
    names = [path.name.partition(".")[0] for path in program.owner.folder.glob("*.key")]
    keys = json.dumps({name: program.owner.public(name) for name in names})
    extra = {"OWNER_KEYS": keys, "PYPATCHER_STATE": f"/device/{folder.name}/state"}
    command = program.device.command(*program.command)
    return _watch(cleanup, program.label, command, program.device.environment(**environment, **extra))


def _be_hostile(
    programs: Sequence[Program], running: dict[str, Watched], native: Native, work: Path, environment: dict[str, str]
) -> None:
    """Offer what nobody may take. The versions rise because every slot of the DHT keeps the highest alone."""
    targets = [program for program in programs if program.kind == "c"]
    stranger = Owner.make(native, work / "stranger-keys")
    wrong_key, wrong_machine = [], []
    for number, program in enumerate(targets):
        name = program.device.target.name
        file = build_c(program.device, WRONG_KEY, work / f"{name}-wrong-key")
        stranger.sign(file, WRONG_KEY, name)
        wrong_key.append(_seed(f"{name} wrong key", program, file, work, hostile=True))
        other = targets[number - 1].device if len(targets) > 1 else Device(native.target)
        file = build_c(other, WRONG_MACHINE, work / f"{name}-wrong-machine")
        program.owner.sign(file, WRONG_MACHINE, name, any_target=True)
        wrong_machine.append(_seed(f"{name} wrong machine", program, file, work, hostile=True))
    # Devices hold failures against a whole network, so hostile nodes have one of their own.
    environment = {**environment, "PYPATCHER_BIND": "127.0.2.1:0"}
    with serve_natively(native, wrong_key, environment) as seeder:
        _all_published(seeder, wrong_key, WRONG_KEY)
        time.sleep(4 * _LOOK)  # nothing is to happen: every device looked at it by then
    with serve_natively(native, wrong_machine, environment) as seeder:
        _all_published(seeder, wrong_machine, WRONG_MACHINE)
        for program in targets:
            refused = running[program.label].wait_for_event(_SLOW, "release.refused", version=WRONG_MACHINE)
            if f"not for target {program.device.target.name}" not in refused["reason"]:
                raise StepFailedError(
                    f"{program.label}: refused {WRONG_MACHINE} for another reason: {refused['reason']}"
                )
            say(f"{program.label}: refused {WRONG_MACHINE}: {refused['reason']}")


def _all_published(seeder: Watched, seeds: Sequence[dict[str, Any]], version: str) -> None:
    missing = {seed["label"] for seed in seeds}
    while missing:
        missing.discard(seeder.wait_for_event(_SLOW, "record.published", version=version)["label"])


def _see_update(program: Program, process: Watched) -> None:
    process.wait_for("the new version", lambda line: f"version {NEW}" in line and _ARGUMENTS[0] in line, _SLOW)
    if program.kind != "c":  # under run the node stays as it is
        process.wait_for_event(_SLOW, "node.started", version=NEW)
    if program.installed.read_bytes() != program.new.read_bytes():
        raise StepFailedError(f"{program.label}: the file is not the release, byte for byte")
    events = process.events()
    steps = ("release.staged", "restart", "release.activated")
    taken = [(event["event"], event["version"]) for event in events if event["event"] in steps]
    # A restart comes after its release was said to be staged, and what it activates is said as well.
    if taken[:1] != [("release.staged", NEW)] or {version for _, version in taken} != {NEW}:
        raise StepFailedError(process.story(f"took {taken}"))
    if not any(name == "release.activated" for name, _ in taken):
        raise StepFailedError(process.story(f"took {taken}"))
    if any(event.get("version") == WRONG_KEY for event in events):
        raise StepFailedError(f"{program.label}: paid heed to a release that its owner did not sign")


def _seed(label: str, program: Program, file: Path, work: Path, *, hostile: bool = False) -> dict[str, Any]:
    folder = fresh_folder(work / "seeds" / label.replace(" ", "-"))
    target = program.device.target.name
    return {
        "label": label,
        "file": str(shutil.copy2(file, folder)),
        "target": target,
        "owner": program.owner.public(target),
        "hostile": hostile,
    }


@contextlib.contextmanager
def serve_natively(native: Native, seeds: list[dict[str, Any]], environment: dict[str, str]) -> Iterator[Watched]:
    """Native nodes that announce and serve these files meanwhile."""
    script = Path(__file__).resolve().parent / "seeder.py"
    with contextlib.ExitStack() as cleanup:
        yield _watch(
            cleanup, "native node", [str(native.python), str(script), json.dumps(seeds)], clean_environment(environment)
        )


def _watch(cleanup: contextlib.ExitStack, label: str, command: list[str], environment: dict[str, str]) -> Watched:
    process = Watched(label, command, environment)
    cleanup.callback(process.stop)
    return process
