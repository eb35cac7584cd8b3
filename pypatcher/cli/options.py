"""Arguments that several commands share: how they are read, and what is said when they make no sense."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
from pathlib import Path
from typing import Any

from pypatcher.errors import PatcherError
from pypatcher.keys import is_read_by_others
from pypatcher.targets import Target, find_target
from pypatcher.version import Version

__all__ = [
    "add_any",
    "add_file",
    "add_json",
    "add_out",
    "add_target",
    "print_json",
    "report_done",
    "target",
    "version",
    "warn_of_readers",
    "when",
]


def version(text: str) -> Version:
    """Read ``MAJOR.MINOR.PATCH`` and check that it can be announced, for argparse."""
    try:
        parsed = Version.parse(text)
        parsed.seq()
    except PatcherError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return parsed


def target(text: str) -> Target:
    """Read a target's name, for argparse."""
    try:
        return find_target(text)
    except PatcherError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_file(parser: argparse.ArgumentParser, what: str = "the program: an ELF file or a zipapp") -> None:
    """The positional FILE."""
    parser.add_argument("file", metavar="FILE", type=Path, help=what)


def add_any(parser: argparse.ArgumentParser) -> None:
    """``--any``."""
    parser.add_argument(
        "--any", action="store_true", help="take a file for a machine that is no known target (no device updates to it)"
    )


def add_out(parser: argparse.ArgumentParser) -> None:
    """``--out FILE``."""
    parser.add_argument(
        "--out",
        metavar="OUT",
        type=Path,
        help="write the result there, and leave FILE as it is (default: replace FILE)",
    )


def add_target(parser: argparse._ActionsContainer, what: str) -> None:
    """``--target T``."""
    parser.add_argument("--target", metavar="T", type=target, help=what)


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON object, for scripts")


def warn_of_readers(path: Path, command: str) -> None:
    """Say that a secret key's file can be read by others, if it can."""
    if is_read_by_others(path):
        print(f"pypatcher {command}: {path} can be read by other users: chmod 600 it", file=sys.stderr)


def print_json(values: dict[str, Any]) -> None:
    """One JSON object on one line."""
    print(json.dumps(values))


def when(seconds: float) -> str | None:
    """ISO 8601 in UTC; None for never."""
    if not seconds:
        return None
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


def report_done(values: dict[str, Any], text: str, *, as_json: bool) -> int:
    """Say what was changed, for scripts or for people; returns the exit status, which is 0 whether it could be said.

    Something IS done by now: a status that says otherwise would be a lie, and done again it may mean something else.
    """
    try:
        if as_json:
            print_json(values)
        else:
            print(text)
        sys.stdout.flush()
    except OSError as error:
        # Nothing may be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        print(f"pypatcher: it is done; only this could not be written to stdout: {error.strerror}", file=sys.stderr)
    return 0
