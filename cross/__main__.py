"""``python -m cross COMMAND [TARGET ...]``; people use ``make wheels``, ``make wheelhouse TARGET=...``."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from cross.clean import UMASK
from cross.elsewhere import debian, make_in_debian
from cross.own import make_own_wheel
from cross.sums import write_sums
from cross.sysroot import host_suite, make_sysroot
from cross.wheelhouse import WHEELHOUSE, make_wheelhouse
from cross.workshop import REPOSITORY, StepFailedError, check_place, place, say
from pypatcher.errors import KeyFileError, SettingError
from pypatcher.keys import KeyPair, is_read_by_others, read_secret_file
from pypatcher.targets import Target, find_target, load_targets


def main() -> int:
    """Do what was asked for; 1 with one message if it cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m cross", description=__doc__)
    parser.add_argument("command", choices=("wheels", "wheelhouse", "sysroot"))
    parser.add_argument("targets", metavar="TARGET", nargs="*", help="default: all of targets/")
    parser.add_argument("--debian", metavar="N", help="wheelhouse: for that Debian's Python (default: this one's)")
    parser.add_argument("--key-file", type=Path, help="signs what is made (wheelhouse)")
    args = parser.parse_args()
    os.umask(UMASK)
    start = time.monotonic()
    try:
        check_place()
        key = _read_key(args.key_file) if args.key_file else None
        targets = [find_target(name) for name in args.targets] or list(load_targets().values())
        for target in targets:
            if args.debian and host_suite()[1] != debian(args.debian).codename:
                _elsewhere(args.debian, target, key)
            else:
                _COMMANDS[args.command](target, key)
    except (StepFailedError, SettingError, KeyFileError, OSError) as error:
        print(f"cross: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("cross: interrupted; what is whole is kept, the rest is made anew by the next run", file=sys.stderr)
        return 130
    say(f"done in {time.monotonic() - start:.0f} s")
    return 0


def _read_key(path: Path) -> KeyPair:
    key, _ = read_secret_file(path)
    if is_read_by_others(path):
        say(f"{path} can be read by other users: chmod 600 it")
    return key


def _elsewhere(number: str, target: Target, key: KeyPair | None) -> None:
    folder = make_in_debian(number, target)
    write_sums(folder, key)
    _say_signed(target, key)


def _say_signed(target: Target, key: KeyPair | None) -> None:
    say(f"{target.name}: SHA256SUMS is {'signed' if key else 'not signed by anybody: KEY=FILE signs it'}")


def _wheels(target: Target, _key: KeyPair | None) -> None:
    wheel = place(make_own_wheel(target), REPOSITORY / "dist")
    say(f"{target.name}: dist/{wheel.name} ({wheel.stat().st_size / 1000:.0f} kB)")


def _wheelhouse(target: Target, key: KeyPair | None) -> None:
    folder = make_wheelhouse(target, key)
    wheels = list(folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
    say(f"{target.name}: {folder.relative_to(WHEELHOUSE.parent)} has {len(wheels)} wheels, {size:.1f} MB")
    _say_signed(target, key)


def _sysroot(target: Target, _key: KeyPair | None) -> None:
    say(f"{target.name}: {make_sysroot(target)}")


_COMMANDS = {"wheels": _wheels, "wheelhouse": _wheelhouse, "sysroot": _sysroot}

if __name__ == "__main__":
    sys.exit(main())
