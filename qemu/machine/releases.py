"""What the device's owner publishes: old and new versions of a C program and a onefile; a zipapp, a release of it that
crashes, and one after that. Built and signed in a folder from which the disk takes them.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from cross.workshop import fresh_folder
from qemu.device import CACHE, Device
from qemu.machine.system import INSIDE
from qemu.native import Native
from qemu.onefile import build_onefile
from qemu.programs import Owner, build_c, build_zipapp

__all__ = ["BROKEN", "FIXED", "KINDS", "NEW", "OLD", "Releases", "make_releases"]

OLD, NEW, BROKEN, FIXED = "1.0.0", "1.1.0", "1.2.0", "1.3.0"
KINDS = {"c": (OLD, NEW), "onefile": (OLD, NEW), "zipapp": (OLD, BROKEN, FIXED)}


@dataclass(frozen=True, slots=True)
class Releases:
    """``folder/KIND/VERSION/app`` are the signed files."""

    folder: Path
    keys: dict[str, str]

    def file(self, kind: str, version: str) -> Path:
        """One signed release."""
        return self.folder / kind / version / "app"

    @classmethod
    def made(cls, device: Device) -> Releases:
        """Those of the last `make_releases`."""
        folder = _folder(device)
        return cls(folder, json.loads((folder / "keys.json").read_text(encoding="ascii")))


def make_releases(device: Device, native: Native) -> None:
    """Build and sign all of them; inside the namespace in which the device's programs run.

    Raises:
        StepFailedError: one cannot be built.
    """
    folder, name = fresh_folder(_folder(device)), device.target.name
    keys = {}
    for kind, versions in KINDS.items():
        owner = Owner.make(native, folder / f"{kind}-keys")
        keys[kind] = owner.public(name)
        for version in versions:
            owner.sign(_build(kind, device, native, version, folder / kind / version), version, name)
    (folder / "keys.json").write_text(json.dumps(keys), encoding="ascii")


def _build(kind: str, device: Device, native: Native, version: str, into: Path) -> Path:
    if kind == "c":
        return build_c(device, version, into)
    if version == BROKEN:
        return build_c(device, version, into, INSIDE / "crash.c")
    if kind == "zipapp":
        return build_zipapp(device, native, version, into).rename(into / "app")
    into.mkdir(parents=True)
    program = Path(shutil.copy2(build_onefile(device), into / "app"))
    native.pypatcher("embed", program, "--version", version)
    return program


def _folder(device: Device) -> Path:
    return CACHE / "machine" / f"{device.target.name}-releases"
