"""Devices of the lab: real processes, ``pypatcher run`` with a signed C program, in the namespaces of their sites."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pypatcher.artifact import PatchInfo, sign_file
from pypatcher.artifact.beside import manifest_path, write_manifest
from pypatcher.artifact.manifest import ManifestFile
from pypatcher.artifact.rollout import Change, first_word, next_word
from pypatcher.artifact.tree import stated_root
from pypatcher.keys import KeyPair, encode_key
from pypatcher.node.device import own_target
from tests.nat.lab import Lab
from tests.nat.sites import Host

__all__ = ["NEW", "OLD", "LabDevice", "LabFleet", "build_program", "tell_story"]

OLD, NEW = "1.0.0", "1.1.0"
_ROOT = Path(__file__).resolve().parents[2]
_SETTINGS = {
    "PYPATCHER_LOG": "json",
    "PYPATCHER_LOOK_INTERVAL": "2",
    "PYPATCHER_PUBLISH_INTERVAL": "5",
}


def build_program(folder: Path, padding: int = 0) -> dict[str, Path]:
    """The C example in both versions, unsigned; ``padding``: so many bytes larger, for a transfer that takes time."""
    programs = {}
    ballast = folder / "ballast.c"
    ballast.write_text(f"const char ballast[{padding + 1}] = {{1}};\n")
    for version in (OLD, NEW):
        programs[version] = folder / f"app-{version}"
        include = [f"-I{_ROOT / 'pypatcher' / 'include'}", f'-DPYPATCHER_VERSION="{version}"']
        source = _ROOT / "examples" / "c-app" / "app.c"
        subprocess.run(["gcc", *include, "-o", programs[version], source, ballast], check=True)
    return programs


@dataclass
class LabDevice:
    """One process and what it said. ``events`` are (seconds since the start of the lab's clock, event)."""

    name: str
    program: Path
    process: asyncio.subprocess.Process
    events: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    lines: list[tuple[float, str]] = field(default_factory=list)
    _said: asyncio.Event = field(default_factory=asyncio.Event)
    _readers: list[asyncio.Task[None]] = field(default_factory=list)

    async def read(self, stream: asyncio.StreamReader) -> None:
        """Take in one of its outputs until it ends."""
        async for raw in stream:
            line, now = raw.decode("utf-8", "replace").rstrip("\n"), time.monotonic()
            event = None
            if line.startswith("{"):
                with suppress(ValueError):
                    event = json.loads(line)
            if event is None:
                self.lines.append((now, line))
            else:
                self.events.append((now, event))
            self._said.set()

    async def until(self, reached: Callable[[LabDevice], float | None], seconds: float) -> float | None:
        """When it had said what ``reached`` waits for (``time.monotonic``), or None after ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while (when := reached(self)) is None:
                    self._said.clear()
                    await self._said.wait()
                return when
        return None

    def event(self, name: str) -> dict[str, Any] | None:
        """The last event of that name."""
        return next((event for _, event in reversed(self.events) if event["event"] == name), None)

    def runs_new(self) -> float | None:
        """When the new version of the program first spoke."""
        return next((when for when, line in self.lines if line.startswith(f"version {NEW}")), None)

    def word_seq(self) -> int:
        """The revision of the owner's newest word that it has stored; 0 for none."""
        seen = list(self.program.parent.glob(f".{self.program.name}.pypatcher/manifest-*.seen"))
        return int(seen[0].read_text()) if seen else 0

    def peak_memory(self) -> float:
        """The most memory that its process ever had, in MB."""
        status = Path("/proc", str(self.process.pid), "status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024

    async def stop(self) -> None:
        """End it as a service manager would."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(10):
                await self.process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await asyncio.gather(*self._readers)


class LabFleet:
    """Devices of one owner, who has a key pair of its own, so that many fleets use one DHT side by side."""

    def __init__(self, world: Lab, programs: dict[str, Path], bootstrap: str, name: str) -> None:
        self._world = world
        self._programs = programs
        self.bootstrap = bootstrap
        self._folder = world.folder / name
        self._key = KeyPair.generate()
        self.devices: list[LabDevice] = []

    @property
    def public_key(self) -> str:
        """For ``--public-key``."""
        return encode_key(self._key.public)

    @property
    def target(self) -> str:
        """What its programs are for: this machine."""
        return own_target(self._programs[NEW], Path(sys.executable)).name

    def release(self, version: str) -> PatchInfo:
        """What the owner signed about a version."""
        self._folder.mkdir(parents=True, exist_ok=True)
        program = shutil.copy(self._programs[version], self._folder / f"signed-{version}")
        return sign_file(program, self._key, None, None)

    def environment(self, host: Host, name: str) -> dict[str, str]:
        """What a device's processes are given."""
        return {
            **_SETTINGS,
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(_ROOT),
            "PYPATCHER_BOOTSTRAP": self.bootstrap,
            "PYPATCHER_BIND": host.bind,
            "PYPATCHER_STATE": str(self._folder / name / "state"),
        }

    def word(self, version: str, *changes: Change) -> ManifestFile:
        """The owner's word: everybody may take that version; and what he says after that."""
        info = self.release(version)
        with (self._folder / f"signed-{version}").open("rb") as signed:
            tree = stated_root(signed.fileno())
        word = first_word(self._key, info, [self.target], Change(tree=tree))
        for change in changes:
            word = next_word(word, self._key, change, made=0)
        return word

    async def start(
        self, host: Host, name: str, version: str, word: ManifestFile | None = None, **settings: str
    ) -> LabDevice:
        """Start a device whose program is of that version, with a word beside it; more settings as environment."""
        folder = self._folder / name
        folder.mkdir(parents=True)
        program = folder / "app"
        shutil.copy(self._programs[version], program)
        sign_file(program, self._key, None, None)
        if word is not None:
            write_manifest(manifest_path(program), word, replace=True)
        process = await asyncio.create_subprocess_exec(
            *self._world.enter(host.namespace),
            *(sys.executable, "-m", "pypatcher", "run", "--public-key", self.public_key, "--", program),
            env=self.environment(host, name) | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        device = LabDevice(name, program, process)
        assert process.stdout is not None
        assert process.stderr is not None
        device._readers = [asyncio.create_task(device.read(each)) for each in (process.stdout, process.stderr)]
        self.devices.append(device)
        return device

    async def stop(self) -> None:
        """End every device."""
        await asyncio.gather(*(device.stop() for device in self.devices))
        shutil.rmtree(self._folder, ignore_errors=True)


def tell_story(begin: float, *devices: LabDevice) -> str:
    """What each device said, without the noise."""
    told = []
    for device in devices:
        for when, event in device.events:
            if event["event"] != "fetch.progress":
                shown = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("event", "time"))
                told.append((when, f"{device.name}: {event['event']} {shown}"))
        told += [(when, f"{device.name}: | {line}") for when, line in device.lines]
    return "\n".join(f"{when - begin:6.1f} s  {line[:300]}" for when, line in sorted(told))
