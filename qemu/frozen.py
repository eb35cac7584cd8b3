"""``make onefile TARGET=armv7 APP=app.py``: anybody's own program as a onefile for a target, with what it imports.

PyInstaller runs on the emulated device, as it would on a real one; for this machine's own target it is not emulated.
Beside APP may lie ``requirements.txt``, with a hash for each file; its wheels are taken from the index, and where that
has none for the target, built here from source.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from cross.clean import UMASK
from cross.debian import emulator_packages, install_missing, toolchain_packages
from cross.environment import is_native, make_environment
from cross.pins import read_pins
from cross.wheelhouse import download_options, get_wheel
from cross.workshop import REPOSITORY, StepFailedError, check_place, fresh_folder, locked, place, run, say
from pypatcher.errors import SettingError
from pypatcher.targets import find_target
from qemu.device import CACHE, Device
from qemu.namespace import INSIDE, enter, register
from qemu.onefile import freeze, install_pyinstaller

__all__ = ["main"]


def main() -> int:
    """Build one; 1 with one message if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m qemu.frozen", description=__doc__)
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("app", metavar="APP", type=Path)
    args = parser.parse_args()
    os.umask(UMASK)
    try:
        check_place()
        device, app = Device(find_target(args.target)), args.app.resolve()
        if not app.is_file():
            raise StepFailedError(f"{app} is no file: name the Python file that starts your program, APP=app.py")
        if INSIDE in os.environ:
            _freeze(device, app)
            return 0
        with locked("qemu"):
            emulator = {} if is_native(device.target) else emulator_packages(device.target)
            install_missing(toolchain_packages(device.target) | emulator)
            device.prepare()
            install_pyinstaller(device)
            _gather(device, app.with_name("requirements.txt"))
            return enter("qemu.frozen", args.target, str(app))
    except (StepFailedError, SettingError, OSError) as error:
        print(f"onefile: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _gather(device: Device, requirements: Path) -> None:
    """The wheels of what the program imports, besides pypatcher, unpacked on the device."""
    environment = make_environment(device.target)
    library = fresh_folder(device.root / "opt" / "app")
    if not requirements.exists():
        return
    cache = CACHE / device.target.name / f"app-wheels-{environment.identity}"
    wheels = [get_wheel(environment, pin, cache) for pin in read_pins(requirements)]
    run(
        sys.executable, "-m", "pip", "--isolated", "install", "-q", "--no-compile", "--no-deps", "--no-index",
        *download_options(device.target, environment.libraries), "--target", library, *wheels,
    )  # fmt: skip


def _freeze(device: Device, app: Path) -> None:
    if not is_native(device.target):
        register(device.target, CACHE / "binfmt_misc")
    device.mount()
    device.install()
    say(f"{device.target.name}: building {app.stem}")
    folder = fresh_folder(CACHE / device.target.name / "frozen")
    built = place(freeze(device, app, folder, imports="/opt/app"), REPOSITORY / "dist" / device.target.name)
    size = built.stat().st_size / 1e6
    say(f"{device.target.name}: {built.relative_to(REPOSITORY)}, {size:.1f} MB; `embed` and `sign` come next")


if __name__ == "__main__":
    sys.exit(main())
