"""PyInstaller onefiles of a target: PyInstaller itself runs on the emulated device, as it would on a real one.

The index has no wheel of PyInstaller for some targets. What is missing there is only its bootloader, a C program that
is cross-compiled here.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from cross.audit import platform_tags
from cross.environment import make_environment
from cross.sysroot import glibc_minor
from cross.workshop import StepFailedError, digest_of, fresh_folder, python_version, run, say
from qemu.device import CACHE, Device

__all__ = ["build_onefile", "install_pyinstaller"]

_APP = Path(__file__).resolve().parent / "app.py"
_PYINSTALLER = "pyinstaller==6.22.3"


def install_pyinstaller(device: Device) -> None:
    """Put PyInstaller into the device's filesystem, on the host, if it is not there yet.

    Raises:
        StepFailedError: it can neither be downloaded nor built.
    """
    folder = device.root / "opt" / "pyinstaller"
    stamp = device.root / "opt" / f"{_PYINSTALLER}.done"
    if stamp.exists():
        return
    fresh_folder(folder)
    wheels = CACHE / device.target.name / "pyinstaller-wheels"
    tags = [word for tag in platform_tags(device.target, glibc_minor(device.target)) for word in ("--platform", tag)]
    options = ["-q", "--only-binary=:all:", "--python-version", python_version(), *tags, "--find-links", str(wheels)]
    wheels.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--no-compile", "--target", str(folder), *options, _PYINSTALLER]
    try:
        run(*command)
    except StepFailedError as error:
        if "No matching distribution found for pyinstaller" not in str(error):
            raise
        _build_wheel(device, wheels, tags[1])
        run(*command)
    stamp.touch()


def build_onefile(device: Device) -> Path:
    """The story's Python program as a onefile, built on the emulated device; without a region yet."""
    tools = device.root / "opt" / "tools"
    tools.mkdir(exist_ok=True)
    loader = next(path for path in sorted((device.root / "lib").rglob("ld-linux*.so.*")) if path.is_file())
    # Debian's ldd is a bash script; the loader itself does the work.
    (tools / "ldd").write_text(f'#!/bin/sh\nexec /{loader.relative_to(device.root)} --list "$1"\n', encoding="ascii")
    (tools / "ldd").chmod(0o755)
    wheels = sorted(device.wheelhouse.glob("*.whl"))
    built = CACHE / device.target.name / f"onefile-{digest_of(_APP, *wheels, names=[_PYINSTALLER])}"
    if not built.exists():
        say(f"{device.target.name}: building a PyInstaller onefile")
        for old in built.parent.glob("onefile-*"):
            old.unlink()
        work = fresh_folder(device.path("/root/onefile"))
        shutil.copy2(_APP, work)
        device.run(
            "/bin/sh", "-c",
            f"cd /root/onefile && exec {device.python} -m PyInstaller --onefile --log-level=ERROR --noupx app.py",
            PATH="/opt/tools:/opt/pypatcher/bin:/usr/bin:/usr/sbin",
            PYTHONPATH="/opt/pyinstaller",
        )  # fmt: skip
        shutil.copy2(work / "dist" / "app", built)
        shutil.rmtree(work)
    return built


def _build_wheel(device: Device, wheels: Path, tag: str) -> None:
    """PyInstaller's wheel from its source distribution, with a bootloader for this target."""
    say(f"{device.target.name}: building PyInstaller's bootloader, of which the index has none")
    source = fresh_folder(wheels.parent / "pyinstaller-source")
    run(
        sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary=:all:", "--dest", source, _PYINSTALLER
    )  # fmt: skip
    run("tar", "-x", "--strip-components=1", "-f", next(source.glob("*.tar.gz")), "-C", source)
    run(
        sys.executable, "waf", "configure", "--static-zlib", "build_release", "install_release",
        cwd=source / "bootloader",
        environment={
            **make_environment(device.target).variables,
            "CC": f"{device.target.gnu_triplet}-gcc",
            "CFLAGS": "-D_FILE_OFFSET_BITS=64",
        },
    )  # fmt: skip
    [bootloader] = [loader.parent for loader in (source / "PyInstaller" / "bootloader").glob("Linux-*/run")]
    run(
        sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", wheels, source,
        environment={"PYI_PLATFORM": bootloader.name, "PYI_WHEEL_TAG": tag},
    )  # fmt: skip
    shutil.rmtree(source)
