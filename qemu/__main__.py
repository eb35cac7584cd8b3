"""``python -m qemu [TARGET ...]``: what ``make qemu-test`` runs; by default for every target that this host is not."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from cross.debian import emulator_packages, install_missing
from cross.environment import is_native
from cross.workshop import StepFailedError, locked, say
from pypatcher.errors import SettingError
from pypatcher.targets import find_target, load_targets
from qemu.checks import measure, run_unit_tests
from qemu.device import CACHE, Device
from qemu.namespace import INSIDE, enter, register
from qemu.native import Native
from qemu.story import tell

_WORKERS = 2


def main() -> int:
    """Prepare on the host, then test inside namespaces; 0 if all went as it should."""
    parser = argparse.ArgumentParser(prog="python -m qemu", description=__doc__)
    parser.add_argument("targets", metavar="TARGET", nargs="*")
    parser.add_argument("--only", choices=("units", "story", "footprint"), help="one part, after the installation")
    args = parser.parse_args()
    try:
        foreign = [target for target in load_targets().values() if not is_native(target)]
        targets = [find_target(name) for name in args.targets] or foreign
        devices = [Device(target) for target in targets]
        native = Native()
        if INSIDE in os.environ:
            return _test(devices, native, args.only)
        with locked("qemu"):
            with _timed("preparing"):
                for device in devices:
                    install_missing(emulator_packages(device.target))
                    device.prepare()
                native.prepare()
            return enter("qemu", *sys.argv[1:])
    except (StepFailedError, SettingError) as error:
        print(f"qemu-test: {error}", file=sys.stderr)
        return 1


def _test(devices: list[Device], native: Native, only: str | None) -> int:
    passed = 0
    for device in devices:
        register(device.target, CACHE / "binfmt_misc")
        device.mount()
    with ThreadPoolExecutor(_WORKERS) as pool:
        passed += sum(pool.map(_install, devices))
        if only in (None, "units"):
            passed += sum(pool.map(_unit_tests, devices))
    if only == "footprint":
        for device in devices:
            say(json.dumps(measure(device)))
        return 0
    if only != "units":
        with _timed("the story"):
            passed += tell(devices, native)
    say(f"{passed} passed, 0 failed")
    return 0


def _install(device: Device) -> int:
    with _timed(f"{device.target.name}: pip install from the wheelhouse"):
        device.install()
        say(f"{device.target.name}: {device.run(device.pypatcher, '--version').strip()}")
    return 1


def _unit_tests(device: Device) -> int:
    with _timed(f"{device.target.name}: unit tests"):
        compiled, pure = run_unit_tests(device)
        say(f"{device.target.name}: {compiled} unit tests passed with extensions, {pure} without")
    return compiled + pure


@contextmanager
def _timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
