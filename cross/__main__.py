"""``python -m cross COMMAND [TARGET ...]``; people use ``make wheels``, ``make wheelhouse TARGET=...``."""

from __future__ import annotations

import argparse
import shutil
import sys
import time

from cross.own import make_own_wheel
from cross.sysroot import make_sysroot
from cross.wheelhouse import WHEELHOUSE, make_wheelhouse
from cross.workshop import REPOSITORY, StepFailedError, say
from pypatcher.errors import SettingError
from pypatcher.targets import Target, find_target, load_targets


def main() -> int:
    """Do what was asked for; 1 with one message if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m cross", description=__doc__)
    parser.add_argument("command", choices=("wheels", "wheelhouse", "sysroot"))
    parser.add_argument("targets", metavar="TARGET", nargs="*", help="default: all of targets/")
    args = parser.parse_args()
    start = time.monotonic()
    try:
        targets = [find_target(name) for name in args.targets] or list(load_targets().values())
        for target in targets:
            _COMMANDS[args.command](target)
    except (StepFailedError, SettingError) as error:
        print(f"cross: {error}", file=sys.stderr)
        return 1
    say(f"done in {time.monotonic() - start:.0f} s")
    return 0


def _wheels(target: Target) -> None:
    dist = REPOSITORY / "dist"
    dist.mkdir(exist_ok=True)
    wheel = make_own_wheel(target)
    shutil.copy2(wheel, dist)
    say(f"{target.name}: dist/{wheel.name} ({wheel.stat().st_size / 1000:.0f} kB)")


def _wheelhouse(target: Target) -> None:
    folder = make_wheelhouse(target)
    wheels = list(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    say(f"{target.name}: {folder.relative_to(WHEELHOUSE.parent)} has {len(wheels)} wheels, {size:.1f} MB")


def _sysroot(target: Target) -> None:
    say(f"{target.name}: {make_sysroot(target)}")


_COMMANDS = {"wheels": _wheels, "wheelhouse": _wheelhouse, "sysroot": _sysroot}

if __name__ == "__main__":
    sys.exit(main())
