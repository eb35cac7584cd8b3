"""The Debian packages that the host needs: looked for first, installed only if missing and if we may."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cross.clean import BUILDER_PATH, PATH
from cross.workshop import StepFailedError, run, say
from pypatcher.targets import Target

__all__ = ["emulator_packages", "find_compiler", "install_missing", "toolchain_packages"]


def find_compiler(target: Target, tool: str = "gcc") -> Path | None:
    """``TRIPLET-gcc``, or another tool: the first in the builder's own PATH, then in Debian's."""
    path = os.environ.get(BUILDER_PATH, os.environ.get("PATH", ""))
    found = shutil.which(f"{target.gnu_triplet}-{tool}", path=f"{path}:{PATH}")
    return Path(found).absolute() if found else None


def toolchain_packages(target: Target) -> dict[str, str]:
    """Command -> package, for building for ``target``."""
    if find_compiler(target):  # the host's own one has this name too
        return {}
    return {f"{target.gnu_triplet}-gcc": f"gcc-{target.gnu_triplet.replace('_', '-')}"}


def emulator_packages(target: Target) -> dict[str, str]:
    """Command -> package, for running programs of ``target``."""
    return {target.qemu: "qemu-user-static"}


def install_missing(wanted: dict[str, str]) -> None:
    """Install the packages whose commands are not there.

    Raises:
        StepFailedError: something is missing and cannot be installed by us.
    """
    missing = sorted({package for command, package in wanted.items() if not shutil.which(command, path=PATH)})
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get", path=PATH):
        raise StepFailedError(f"please install these Debian packages first: {' '.join(missing)}")
    say(f"installing {' '.join(missing)}")
    run("apt-get", "update", "-qq")
    run(
        "apt-get",
        "install",
        "-y",
        "-qq",
        "-oDPkg::Lock::Timeout=600",  # another installation may be running
        "--no-install-recommends",
        *missing,
        environment={"DEBIAN_FRONTEND": "noninteractive"},
    )
