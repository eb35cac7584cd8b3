"""``pypatcher unit``: prints a systemd unit for a program, and beside it what would keep the unit from working.

Changes nothing and asks systemd nothing. Not here: the text of the unit (``process.unit``).
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from pypatcher.cli.owners import add_public_key, key_arguments, read_keys
from pypatcher.cli.run import RUN_OPTIONS, add_run_options, run_options
from pypatcher.errors import NotSingleFileError, PatcherError, SettingError
from pypatcher.keys import OwnerKey

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print a systemd unit under which a program keeps itself up to date"
EXAMPLES = """\
  pypatcher unit --user sensor /opt/sensor/app              a program that updates itself (spawn)
  pypatcher unit --public-key K --guard /opt/sensor/app     the same, its starts counted from outside
  pypatcher unit --public-key K /opt/sensor/app             any other program, under `pypatcher run`
  pypatcher unit --public-key K --mode at=03:30 --environment PYPATCHER_UPLOAD=0 /opt/sensor/app --name kitchen
  pypatcher unit --user sensor /opt/sensor/app > /etc/systemd/system/sensor.service

Options come before PROGRAM; what comes after it are the program's own arguments. The unit
waits for READY=1 (sd_notify): `run` says it for its program, and so does spawn(). The folder of
the program is all that it may write to, besides its StateDirectory; it must belong to --user."""


_OPTIONS = {"--user", "--public-key", "--guard", "--type", "--environment", "--watchdog", *RUN_OPTIONS}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``unit``."""
    parser.usage = "pypatcher unit [options] PROGRAM [ARGUMENT ...]"
    parser.add_argument("--user", metavar="U", help="whose rights the program gets (default: root)")
    add_public_key(parser, "start the program with `pypatcher run` and the owner's public key", required=False)
    parser.add_argument("--guard", action="store_true", help="with --public-key: the program updates itself; guard it")
    parser.add_argument(
        "--type", choices=("notify", "exec"), default="notify", help="of the unit; exec: the program never says READY=1"
    )
    parser.add_argument(
        "--environment", metavar="NAME=VALUE", action="append", default=[], help="a variable for program and node"
    )
    parser.add_argument(
        "--watchdog",
        metavar="SECONDS",
        type=float,
        help="the program says WATCHDOG=1 at least so often, or is ended as one that hangs (WatchdogSec=); "
        "systemd's WATCHDOG_PID names the launcher of a onefile, whose program must not mind that",
    )
    add_run_options(parser)
    parser.add_argument(
        "command",
        metavar="PROGRAM",
        nargs=argparse.REMAINDER,
        help="the program's file, where it is installed, and its arguments",
    )


def run(args: argparse.Namespace) -> int:
    """Print the unit.

    Raises:
        NotSingleFileError: there is no such file.
        SettingError: a key, a name or a path makes no sense.
    """
    from pypatcher.process.unit import UnitPlan, unit_text

    keys = read_keys(args.public_key or ())
    path, arguments = _command(args.command)
    program = path.resolve()
    if not program.is_file():
        raise NotSingleFileError(f"{path} is no file: give the program's path as it is on this device")
    if args.watchdog is not None and not 1 <= args.watchdog <= 86400:
        raise SettingError("--watchdog takes seconds, from 1 to 86400")
    plan = UnitPlan(
        program,
        arguments,
        _own_command(),
        key_arguments(keys),
        guarded=args.guard,
        user=args.user,
        kind=args.type,
        options=run_options(args),
        environment=tuple(args.environment),
        watchdog=args.watchdog,
    )
    print(unit_text(plan), end="")
    for doubt in _doubts(program, keys, args.user):
        print(f"pypatcher unit: {doubt}", file=sys.stderr)
    return 0


def _command(words: list[str]) -> tuple[Path, tuple[str, ...]]:
    """The program and its arguments: no option becomes one by mistake, but after a ``--``."""
    own = words[1:] if words[:1] == ["--"] else words
    if not own:
        raise SettingError("give the program's path")
    program, *arguments = own
    if arguments[:1] == ["--"]:
        arguments = arguments[1:]
    elif own is words:
        for argument in arguments:
            if (option := argument.partition("=")[0]) in _OPTIONS:
                raise SettingError(
                    f"{option} comes after PROGRAM: put it before, or -- after PROGRAM if it is the program's own"
                )
    return Path(program), tuple(arguments)


def _doubts(program: Path, keys: Mapping[str | None, OwnerKey], user: str | None) -> Iterator[str]:
    """What would keep the unit from working here; perhaps it is for another device, so it is written all the same."""
    from pypatcher.artifact import check_release
    from pypatcher.artifact.replace import open_program
    from pypatcher.node.device import own_key, own_target

    if not os.access(program, os.X_OK):
        yield f"{program} is not executable here: chmod 755 it"
    try:
        target = own_target(program, Path(sys.executable))
        if keys:
            with open_program(program) as descriptor:
                check_release(descriptor, own_key(keys, target), target)
    except (PatcherError, OSError) as error:
        yield f"{program} will get no updates here: {error}"
    if user is not None:
        try:
            uid = pwd.getpwnam(user).pw_uid
        except KeyError:
            yield f"there is no user {user} here"
        else:
            if program.parent.stat().st_uid != uid:
                yield f"{program.parent} does not belong to {user}, who could not update in it: chown it"


def _own_command() -> tuple[str, ...]:
    """How systemd starts this pypatcher."""
    beside = shutil.which("pypatcher", path=str(Path(sys.executable).parent))
    return (beside,) if beside else (sys.executable, "-m", "pypatcher")
