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
from functools import partial

from cross.clean import UMASK
from cross.debian import emulator_packages, install_missing, toolchain_packages
from cross.environment import is_native
from cross.own import rebuild_own_wheel
from cross.workshop import StepFailedError, check_place, locked, say
from pypatcher.errors import SettingError
from pypatcher.targets import find_target, load_targets
from qemu.checks import run_unit_tests
from qemu.device import CACHE, WORKERS, Device
from qemu.footprint import measure, measure_data_path
from qemu.namespace import INSIDE, enter, register
from qemu.native import Native
from qemu.newer import NewerPython
from qemu.onefile import install_pyinstaller
from qemu.story import tell


def main() -> int:
    """Prepare on the host, then test inside namespaces; 0 if all went as it should."""
    parser = argparse.ArgumentParser(prog="python -m qemu", description=__doc__)
    parser.add_argument("targets", metavar="TARGET", nargs="*")
    parser.add_argument(
        "--only", choices=("units", "story", "footprint", "data-path"), help="one part, after the installation"
    )
    parser.add_argument("--all-units", action="store_true", help="the slow unit tests too (a quarter of an hour)")
    args = parser.parse_args()
    os.umask(UMASK)
    try:
        check_place()
        foreign = [target for target in load_targets().values() if not is_native(target)]
        targets = [find_target(name) for name in args.targets] or foreign
        for target in targets:
            if target not in foreign:
                raise StepFailedError(f"{target.name} is this machine's own target: `make test` tests it")
        devices = [Device(target) for target in targets]
        native = Native()
        newer = NewerPython(native.target)
        if INSIDE in os.environ:
            return _test(devices, native, newer, args)
        with locked("qemu"):
            with _timed("preparing"):
                _prepare(devices, native, newer)
            return enter("qemu", *sys.argv[1:])
    except (StepFailedError, SettingError, OSError) as error:
        print(f"qemu-test: {error}", file=sys.stderr)
        return 1


def _prepare(devices: list[Device], native: Native, newer: NewerPython) -> None:
    wanted: dict[str, str] = {}
    for device in devices:
        wanted |= toolchain_packages(device.target) | emulator_packages(device.target)
    install_missing(wanted)  # at once: there is one lock for installing packages
    with ThreadPoolExecutor(WORKERS) as pool:
        steps = [
            *(pool.submit(_prepare_device, device) for device in devices),
            pool.submit(native.prepare),
            pool.submit(newer.prepare),
        ]
        for step in steps:
            step.result()


def _prepare_device(device: Device) -> None:
    device.prepare()
    rebuild_own_wheel(device.target)
    install_pyinstaller(device)


def _test(devices: list[Device], native: Native, newer: NewerPython, args: argparse.Namespace) -> int:
    passed = 0
    newer.mount()
    for device in devices:
        register(device.target, CACHE / "binfmt_misc")
        device.mount()
    with ThreadPoolExecutor(WORKERS) as pool:
        passed += sum(pool.map(_install, devices))
        if args.only in (None, "units"):
            passed += sum(pool.map(partial(_unit_tests, everything=args.all_units), devices))
            passed += _newer_python(newer)
    if args.only == "footprint":
        for device in devices:
            say(json.dumps(measure(device, native)))
        return 0
    if args.only == "data-path":
        for device in devices:
            say(f"{device.target.name}\n{measure_data_path(device)}")
        return 0
    if args.only != "units":
        with _timed("the story"):
            passed += tell(devices, native)
    say(f"{passed} passed, 0 failed")
    return 0


def _install(device: Device) -> int:
    with _timed(f"{device.target.name}: pip install from the wheelhouse"):
        device.install()
        say(f"{device.target.name}: {device.run(device.pypatcher, '--version').strip()}")
    return 1


def _newer_python(newer: NewerPython) -> int:
    with _timed(f"{newer.target.name}: the same wheel on a newer Python"):
        version, passed = newer.test()
        say(f"{newer.target.name}: {passed} tests passed on Python {version}")
    return passed


def _unit_tests(device: Device, *, everything: bool) -> int:
    with _timed(f"{device.target.name}: unit tests"):
        compiled, pure = run_unit_tests(device, everything=everything)
        say(f"{device.target.name}: {compiled} unit tests passed with extensions, {pure} without")
    return compiled + pure


@contextmanager
def _timed(what: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    say(f"{what}: {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
