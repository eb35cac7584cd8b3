"""What guard, status, confirm, rollback, adopt and stage share: a program's installation, and whose key it has.

No command lives here.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from pypatcher.cli.options import add_json
from pypatcher.cli.owners import add_previous_key, add_public_key, read_keys
from pypatcher.errors import SettingError
from pypatcher.install import Installation
from pypatcher.keys import OwnerKey
from pypatcher.node.device import own_key, own_target, previous_key
from pypatcher.targets import Target
from pypatcher.update.orders import open_installed

__all__ = ["add_installed", "add_key", "add_program", "open_installation", "read_owner"]


def add_installed(parser: argparse.ArgumentParser) -> None:
    """What `open_installation` needs, and ``--json``."""
    add_program(parser)
    add_key(parser, required=False)
    add_json(parser)


def add_program(parser: argparse.ArgumentParser) -> None:
    """The positional PROGRAM."""
    parser.add_argument("program", metavar="PROGRAM", type=Path, help="the program's file, where it is installed")


def add_key(parser: argparse.ArgumentParser, *, required: bool) -> None:
    """``--public-key [TARGET=]K``, as ``run`` takes it."""
    optional = "" if required else " (without it files are checked for damage, not for who signed them)"
    add_public_key(parser, f"the owner's public key{optional}", required=required)
    add_previous_key(parser)


def read_owner(args: argparse.Namespace) -> tuple[OwnerKey, Target, OwnerKey | None]:
    """Whose releases this device takes, for which target, and the owner's key before.

    Raises:
        SettingError: no key is one, or none is for this device.
        WrongTargetError, ArtifactError, OSError: the target cannot be told.
    """
    keys, previous = read_keys(args.public_key), read_keys(args.previous_key, "--previous-key")
    program: Path = args.program
    interpreter = Path(sys.executable)
    # With the program gone, or being one that nobody can read, the interpreter tells what this device is.
    target = own_target(program if program.is_file() and os.access(program, os.R_OK) else interpreter, interpreter)
    return own_key(keys, target), target, previous_key(previous, target)


def open_installation(args: argparse.Namespace, *, may_be_new: bool = False) -> Installation:
    """The installation that the arguments name.

    Raises:
        SettingError: there is no such program and nothing of ours beside it, or a key is none.
        WrongTargetError, ArtifactError, OSError: the target cannot be told.
    """
    if args.public_key is not None:
        installation = open_installed(args.program, *read_owner(args))
    else:
        from pypatcher.artifact import check_intact

        installation = Installation(args.program, check_intact)
    there = installation.program.exists() or installation.layout.state_folder.exists()
    if not there and not may_be_new:
        raise SettingError(f"{installation.program}: there is no such file, and no pypatcher folder beside it")
    return installation
