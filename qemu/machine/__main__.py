"""``python -m qemu.machine TARGET``: what ``make device-test`` runs."""

from __future__ import annotations

import argparse
import os
import sys
import time

from cross.clean import UMASK
from cross.debian import emulator_packages, install_missing
from cross.workshop import StepFailedError, check_place, locked, say
from pypatcher.errors import SettingError
from pypatcher.targets import find_target
from qemu.device import CACHE, Device
from qemu.machine.board import machine_packages
from qemu.machine.cuts import cut_power
from qemu.machine.disk import DISK_TOOLS
from qemu.machine.releases import KINDS, make_releases
from qemu.machine.story import tell
from qemu.machine.system import make_system
from qemu.namespace import INSIDE, enter, register
from qemu.native import Native
from qemu.onefile import install_pyinstaller


def main() -> int:
    """Build in the namespace of emulated programs, then switch devices on; 0 if all went as it should."""
    parser = argparse.ArgumentParser(prog="python -m qemu.machine", description=__doc__)
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("--only", choices=("story", "cuts"), help="one part")
    parser.add_argument("--kinds", nargs="+", choices=list(KINDS), default=list(KINDS), help="programs of the story")
    parser.add_argument("--cuts", metavar="N", type=int, default=4, help="how many power cuts (default: 4)")
    parser.add_argument("--careless", action="store_true", help="cut an updater without fsync, until that shows")
    parser.add_argument("--seed", metavar="N", type=int, help="draw the instants of the cuts as another run did")
    args = parser.parse_args()
    os.umask(UMASK)
    start = time.monotonic()
    try:
        check_place()
        device, native = Device(find_target(args.target)), Native()
        if INSIDE in os.environ:
            _build(device, native, with_releases=args.only != "cuts")
            return 0
        with locked("qemu"):
            install_missing(emulator_packages(device.target) | machine_packages(device.target) | DISK_TOOLS)
            device.prepare()
            native.prepare()
            if args.only != "cuts":
                install_pyinstaller(device)
            system = make_system(device.target)
            if status := enter("qemu.machine", *sys.argv[1:]):
                return status
            say(f"prepared after {time.monotonic() - start:.0f} s")
            bad = 0
            if args.only != "cuts":
                tell(device, system, args.kinds)
                say(f"{' and '.join(args.kinds)}: updates under systemd went as they should")
            if args.only != "story":
                bad = cut_power(device, system, args.cuts, args.seed, careless=args.careless)
            say(f"done after {time.monotonic() - start:.0f} s")
            return 1 if bool(bad) != args.careless else 0
    except (StepFailedError, SettingError, OSError) as error:
        print(f"device-test: {error}", file=sys.stderr)
        return 1


def _build(device: Device, native: Native, *, with_releases: bool) -> None:
    """What needs the device's own programs to run here."""
    register(device.target, CACHE / "binfmt_misc")
    device.mount()
    device.install()
    if with_releases:
        make_releases(device, native)


if __name__ == "__main__":
    sys.exit(main())
