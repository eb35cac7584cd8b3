"""``pypatcher unit``: prints a systemd unit for a program, and beside it what would keep the unit from working.

Changes nothing and asks systemd nothing. Not here: the text of the unit (``process.unit``).
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pypatcher.cli.owners import add_previous_key, add_public_key, key_arguments, read_keys
from pypatcher.cli.run import RUN_OPTIONS, add_run_options, run_options
from pypatcher.errors import NotSingleFileError, PatcherError, SettingError
from pypatcher.keys import OwnerKey
from pypatcher.regular_file import read_regular
from pypatcher.settings import check_variables
from pypatcher.trusted_path import who_else_controls

if TYPE_CHECKING:
    from pypatcher.process.unit import UnitPlan

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print a systemd unit under which a program keeps itself up to date"
EXAMPLES = """\
  pypatcher unit --public-key K --user sensor --out /etc/systemd/system/sensor.service /opt/sensor/app
  pypatcher unit --public-key K --guard /opt/sensor/app     a program that updates itself, its starts counted
  pypatcher unit --public-key K --mode at=03:30 --environment PYPATCHER_UPLOAD=0 /opt/sensor/app --name kitchen
  pypatcher unit --public-key K --offline --out app.service /opt/sensor/app     for another machine

A program in which start() or spawn() is seen is started directly, with a guard; any other runs under
`pypatcher run`. In a Nuitka onefile nothing can be seen: say --guard. Options come before PROGRAM; what
comes after it are the program's own arguments. The unit waits for READY=1 (sd_notify): `run` says it for
its program, and so does spawn(). The folder of the program is all that it may write to, besides its
StateDirectory; it must belong to --user."""


_OPTIONS = {
    "--user",
    "--public-key",
    "--previous-key",
    "--pypatcher",
    "--guard",
    "--type",
    "--environment",
    "--watchdog",
    "--out",
    "--offline",
    *RUN_OPTIONS,
}
_USUAL = "/opt/pypatcher/bin/pypatcher"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``unit``."""
    parser.usage = "pypatcher unit [options] PROGRAM [ARGUMENT ...]"
    parser.add_argument("--user", metavar="U", help="whose rights the program gets (default: root)")
    add_public_key(parser, "start the program with `pypatcher run` and the owner's public key", required=False)
    add_previous_key(parser)
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
    parser.add_argument(
        "--out",
        metavar="FILE",
        type=Path,
        help="write the unit there, whole or not at all: a new name, or over a unit of its own (default: print it)",
    )
    parser.add_argument("--offline", action="store_true", help="it is for another machine: look at nothing here")
    parser.add_argument(
        "--pypatcher",
        metavar="PATH",
        help=f"the command of pypatcher on the device (default: this one; with --offline {_USUAL})",
    )
    add_run_options(parser)
    parser.add_argument(
        "command",
        metavar="PROGRAM",
        nargs=argparse.REMAINDER,
        help="the program's file, where it is installed, and its arguments",
    )


def run(args: argparse.Namespace) -> int:
    """Print the unit, or write it to a file.

    Raises:
        NotSingleFileError: there is no such file.
        SettingError: a key, a name, a path or a variable makes no sense.
        CannotReplaceError: the file cannot be written, or is something else; what was there is there still.
    """
    from pypatcher.process.unit import UnitPlan, unit_text

    keys = read_keys(args.public_key or ())
    path, arguments = _command(args.command)
    program = Path(os.path.normpath(path)) if args.offline else path.resolve()
    if args.offline and not path.is_absolute():
        raise SettingError(f"{path}: with --offline give the program's whole path on the other machine")
    if not args.offline and not program.is_file():
        raise NotSingleFileError(f"{path} is no file: give the program's path as it is on this device, or --offline")
    if args.watchdog is not None and not 1 <= args.watchdog <= 86400:
        raise SettingError("--watchdog takes seconds, from 1 to 86400")
    check_variables(dict(one.partition("=")[::2] for one in args.environment))
    options = run_options(args)
    inside = not args.offline and _updates_itself(program)
    guarded = args.guard or (bool(keys) and inside and not options)
    if args.user is None and not args.offline:
        _check_root_may_run(program)
    plan = UnitPlan(
        program,
        arguments,
        _command_of_pypatcher(args),
        key_arguments(keys),
        guarded=guarded,
        user=args.user,
        kind=args.type,
        options=options,
        environment=tuple(args.environment),
        watchdog=args.watchdog,
        previous=key_arguments(read_keys(args.previous_key, "--previous-key")),
    )
    _write(args.out, unit_text(plan))
    doubts = [] if args.offline else list(_doubts(program, keys, args.user))
    for doubt in [*_who_wins(program, plan, args, inside=inside), *_misplaced(plan, args), *doubts]:
        print(f"pypatcher unit: {doubt}", file=sys.stderr)
    return 0


def _check_root_may_run(program: Path) -> None:
    """Without ``--user`` the unit is root's: whoever else can change the program would be root, too.

    Raises:
        SettingError: somebody can.
    """
    if controller := who_else_controls(program):
        raise SettingError(
            f"without --user the unit runs {program} as root, and {controller} can change it: say whose rights it gets "
            "(--user U, to whom its folder must belong), or let the folder, and those above it, be root's alone"
        )


def _who_wins(program: Path, plan: UnitPlan, args: argparse.Namespace, *, inside: bool) -> Iterator[str]:
    """An app that updates itself has one node: its own, or that of ``run``."""
    if inside and plan.supervised:
        yield (
            f"{program} calls start() or spawn() itself: under `pypatcher run` these make no node, and their mode, "
            "confirm= and on_restart do not count; leave out the options of run for a unit in which they do"
        )
    elif inside and plan.guarded and not args.guard:
        yield f"{program} updates itself: the unit starts it directly, with a guard around it (--guard)"
    elif inside and not plan.keys:
        yield f"{program} updates itself: with --public-key the unit also has a guard, which sees every crash"


def _misplaced(plan: UnitPlan, args: argparse.Namespace) -> Iterator[str]:
    """What the unit starts, and will not find, or may not, wherever it is written for."""
    from pypatcher.process.unit import why_lost

    started = [plan.program]
    if plan.keys:
        started.append(Path(plan.pypatcher[0]))
    if not args.offline:
        started += _interpreter(plan.program)
    for path in dict.fromkeys(started):
        if why := why_lost(path):
            yield f"the unit will not find {path}: {why}; move it, for example into a folder in /opt, and write it anew"
        elif args.user is not None and not args.offline and (closed := _closed_folder(path, args.user)):
            yield f"{args.user} cannot reach {path}: {closed} lets others not in; move it, for example to /opt"


def _interpreter(program: Path) -> list[Path]:
    """What a zipapp or a script says in its first line."""
    try:
        first = read_regular(program, 256).partition(b"\n")[0]
    except OSError:
        return []
    words = first[2:].split()
    return [Path(os.fsdecode(words[0]))] if first.startswith(b"#!") and words else []


def _closed_folder(path: Path, user: str) -> Path | None:
    """The first folder above it through which a user does not get, as modes say it."""
    try:
        who = pwd.getpwnam(user)
        groups = os.getgrouplist(user, who.pw_gid)
        for folder in reversed(path.parents):
            found = folder.stat()
            place = 6 if found.st_uid == who.pw_uid else 3 if found.st_gid in groups else 0
            if who.pw_uid and not found.st_mode >> place & stat.S_IXOTH:
                return folder
    except (KeyError, OSError):
        return None
    return None


def _updates_itself(program: Path) -> bool:
    from pypatcher.artifact.inside import look_inside
    from pypatcher.artifact.replace import open_program

    try:
        with open_program(program) as descriptor:
            return look_inside(descriptor).updates_itself
    except (PatcherError, OSError):
        return False


def _write(out: Path | None, text: str) -> None:
    from pypatcher.artifact.replace import write_file
    from pypatcher.process.unit import is_unit

    if out is None:
        print(text, end="")
    else:
        write_file(out, os.fsencode(text), lambda fd: is_unit(os.pread(fd, 4096, 0)), "unit of pypatcher's")


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


def _command_of_pypatcher(args: argparse.Namespace) -> tuple[str, ...]:
    """How systemd starts pypatcher: this one, or that of the other machine."""
    if args.pypatcher is not None:
        if not args.pypatcher.startswith("/"):
            raise SettingError("--pypatcher takes a whole path")
        return (args.pypatcher,)
    if args.offline:
        return (_USUAL,)
    beside = shutil.which("pypatcher", path=str(Path(sys.executable).parent))
    return (beside,) if beside else (sys.executable, "-m", "pypatcher")
