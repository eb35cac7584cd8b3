"""``pypatcher unit``: prints a systemd unit for a program."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from pypatcher.cli.node_options import read_keys
from pypatcher.errors import NotSingleFileError

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print a systemd unit under which a program keeps itself up to date"
EXAMPLES = """\
  pypatcher unit /opt/sensor/app --user sensor              a program that updates itself (spawn)
  pypatcher unit --public-key K --guard /opt/sensor/app     the same, its starts counted from outside
  pypatcher unit --public-key K /opt/sensor/app             any other program, under `pypatcher run`
  pypatcher unit /opt/sensor/app > /etc/systemd/system/sensor.service

The unit waits for READY=1 (sd_notify): `run` says it for its program, and so does spawn(). The folder of
the program is all that it may write to, besides its StateDirectory; it must belong to --user."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``unit``."""
    parser.usage = "pypatcher unit [options] PROGRAM [ARGUMENT ...]"
    parser.add_argument("--user", metavar="U", help="whose rights the program gets (default: root)")
    parser.add_argument(
        "--public-key",
        metavar="[TARGET=]K",
        action="append",
        default=[],
        help="the owner's public key, once or once a target: start the program with `pypatcher run`",
    )
    parser.add_argument("--guard", action="store_true", help="with --public-key: the program updates itself; guard it")
    parser.add_argument(
        "--type", choices=("notify", "exec"), default="notify", help="of the unit; exec: the program never says READY=1"
    )
    parser.add_argument("program", metavar="PROGRAM", type=Path, help="the program's file, where it is installed")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER, help="its arguments")


def run(args: argparse.Namespace) -> int:
    """Print the unit.

    Raises:
        NotSingleFileError: there is no such file.
        SettingError: a key, a name or a path makes no sense.
    """
    from pypatcher.process.unit import UnitPlan, unit_text

    read_keys(args.public_key)
    program = args.program.resolve()
    if not program.is_file():
        raise NotSingleFileError(f"{args.program} is no file: give the program's path as it is on this device")
    plan = UnitPlan(
        program,
        tuple(args.arguments),
        _own_command(),
        tuple(args.public_key),
        guarded=args.guard,
        user=args.user,
        kind=args.type,
    )
    print(unit_text(plan), end="")
    return 0


def _own_command() -> tuple[str, ...]:
    """How systemd starts this pypatcher."""
    beside = shutil.which("pypatcher", path=str(Path(sys.executable).parent))
    return (beside,) if beside else (sys.executable, "-m", "pypatcher")
