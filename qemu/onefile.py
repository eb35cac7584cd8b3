"""PyInstaller onefiles of a target: PyInstaller itself runs on the emulated device, as it would on a real one.

The index has no wheel of PyInstaller for some targets. What is missing there is only its bootloader, a C program that
is cross-compiled here.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from cross.audit import glibc_minor, platform_tags
from cross.environment import make_environment
from cross.pins import HASHED, PINS, read_pins
from cross.workshop import EPOCH, StepFailedError, digest_of, fresh_folder, make_once, place, python_version, run, say
from qemu.device import CACHE, Device

__all__ = ["build_onefile", "freeze", "install_pyinstaller"]

_APP = Path(__file__).resolve().parent / "app.py"
_PINS = PINS / "onefile.txt"


def install_pyinstaller(device: Device) -> None:
    """Put PyInstaller into the device's filesystem, on the host, if it is not there yet.

    Raises:
        StepFailedError: it can neither be downloaded nor built.
    """
    environment = make_environment(device.target)
    tags = platform_tags(device.target, glibc_minor(environment.libraries))
    options = ["--python-version", python_version(), *(word for tag in tags for word in ("--platform", tag))]

    def fill(folder: Path) -> None:
        pip: list[str | Path] = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--target", folder]
        work = fresh_folder(CACHE / device.target.name / "pyinstaller-work")
        for pin in read_pins(_PINS):
            wanted = work / f"{pin.name}.txt"
            wanted.write_text(pin.text, encoding="utf-8")
            try:
                run(*pip, *HASHED, *options, "-r", wanted)
            except StepFailedError as error:
                if pin.name != "pyinstaller" or "No matching distribution found" not in str(error):
                    raise
                wheel = _build_wheel(device, wanted, work, tags[1])
                run(*pip, "--no-deps", "--no-index", "--only-binary=:all:", *options, wheel)
        shutil.rmtree(work)

    make_once(device.root / "opt" / "pyinstaller", digest_of(_PINS, Path(__file__), names=[environment.identity]), fill)


def build_onefile(device: Device) -> Path:
    """The story's Python program as a onefile, built on the emulated device; without a region yet."""
    wheels = sorted(device.wheelhouse.glob("*.whl"))
    identity = digest_of(_APP, _PINS, Path(__file__), *wheels)

    def fill(folder: Path) -> None:
        say(f"{device.target.name}: building a PyInstaller onefile")
        alone = place(_APP, fresh_folder(CACHE / device.target.name / "onefile-source"))
        freeze(device, alone, folder)

    return make_once(CACHE / device.target.name / "onefile", identity, fill) / _APP.stem


def freeze(device: Device, app: Path, into: Path, *, imports: str = "/nonexistent") -> Path:
    """Build ``app`` as a onefile into ``into``: the same bytes from the same source.

    PyInstaller puts modules into the file in the order of a set, and a set of names is in another order where Python
    has just compiled it than where it was read from a .pyc file. So no run may leave such files to the next.

    Args:
        app: its first file; what lies beside it in its folder is there as well.
        imports: a folder on the device with what it imports besides pypatcher.

    Raises:
        StepFailedError: PyInstaller cannot.
    """
    tools = device.root / "opt" / "tools"
    tools.mkdir(exist_ok=True)
    loader = next(path for path in sorted((device.root / "lib").rglob("ld-linux*.so.*")) if path.is_file())
    # Debian's ldd is a bash script; the loader itself does the work.
    (tools / "ldd").write_text(f'#!/bin/sh\nexec /{loader.relative_to(device.root)} --list "$1"\n', encoding="ascii")
    (tools / "ldd").chmod(0o755)
    work = fresh_folder(device.path("/root/onefile"))
    shutil.copytree(app.parent, work, dirs_exist_ok=True, ignore=_not_sources, ignore_dangling_symlinks=True)
    device.run(
        "/bin/sh", "-c",
        'cd /root/onefile && exec "$0" -m PyInstaller --onefile --log-level=ERROR --noupx --name "$1" "$2"',
        device.python, app.stem, app.name,
        PATH="/opt/tools:/opt/pypatcher/bin:/usr/bin:/usr/sbin",
        PYTHONPATH=f"/opt/pyinstaller:{imports}",
        PYTHONHASHSEED="0",
        PYTHONDONTWRITEBYTECODE="1",
        SOURCE_DATE_EPOCH=EPOCH,
    )  # fmt: skip
    built = place(work / "dist" / app.stem, into)
    shutil.rmtree(work)
    return built


def _not_sources(folder: str, names: list[str]) -> list[str]:
    """What is no part of a program: hidden, built, or a virtual environment."""
    skipped = {"__pycache__", "build", "dist"}
    return [
        name
        for name in names
        if name.startswith(".") or name in skipped or (Path(folder) / name / "pyvenv.cfg").exists()
    ]


def _build_wheel(device: Device, wanted: Path, work: Path, tag: str) -> Path:
    """PyInstaller's wheel from its source distribution, with a bootloader for this target."""
    say(f"{device.target.name}: building PyInstaller's bootloader, of which the index has none")
    pip, environment = [sys.executable, "-m", "pip"], make_environment(device.target)
    archives, source = work / "archive", fresh_folder(work / "source")
    download = ["download", "-q", "--no-deps", "--no-binary=:all:", "--no-build-isolation", "--require-hashes"]
    run(*pip, *download, "--dest", archives, "-r", wanted)
    archive = next(archives.glob("*.tar.gz"))
    run("tar", "-x", "--strip-components=1", "--no-same-owner", "--no-same-permissions", "-f", archive, "-C", source)
    run(
        sys.executable, "waf", "configure", "--static-zlib", "build_release", "install_release",
        cwd=source / "bootloader",
        environment={
            **environment.variables,
            "CC": f"{device.target.gnu_triplet}-gcc",
            "CFLAGS": f"-D_FILE_OFFSET_BITS=64 -g0 -ffile-prefix-map={source}=.",
        },
    )  # fmt: skip
    [bootloader] = [loader.parent for loader in (source / "PyInstaller" / "bootloader").glob("Linux-*/run")]
    run(
        *pip, "wheel", "-q", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", work / "built", source,
        environment={"PYI_PLATFORM": bootloader.name, "PYI_WHEEL_TAG": tag, "SOURCE_DATE_EPOCH": EPOCH},
    )  # fmt: skip
    return next((work / "built").glob("*.whl"))
