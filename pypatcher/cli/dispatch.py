"""From ``argv`` to one command's module and an exit status: 0 done, 1 refused, 2 wrong use.

A command is a module ``pypatcher/cli/<name>.py`` (``_`` for ``-``) with ``HELP`` (one line), ``EXAMPLES`` (lines for
the end of its help, optional), ``add_arguments(parser)`` and ``run(args) -> int``. Only the command that was asked for
is imported, and commands import what is heavy in ``run``: making a key must not load a network stack.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import re
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import NoReturn

from pypatcher.cli.help import GROUPS, HelpFormatter, grouped
from pypatcher.cli.options import print_json
from pypatcher.errors import PatcherError, SettingError

__all__ = ["COMMANDS", "full_parser", "main"]

COMMANDS = tuple(command for _, commands in GROUPS for command in commands)

_KEY_LIKE = re.compile(r"(?<![A-Za-z0-9])[A-Za-z0-9]{50,54}(?![A-Za-z0-9])")
"""A key of 52 characters, also one that is mistyped."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where help is."""

    def error(self, message: str) -> NoReturn:
        # Somebody may have put a secret key where a name belongs: it must not end in a log as well.
        message = _KEY_LIKE.sub("(a key)", message)
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status and never raises but for --help, --version and wrong arguments."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file's name may hold what this terminal cannot show: that is no reason to fail after the work is done.
            stream.reconfigure(errors="backslashreplace")
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments and arguments[0] in COMMANDS else None
    parser = _make_parser((name,) if name else COMMANDS)
    args = parser.parse_args(arguments)
    if name is None:
        parser.error("say which command")
    try:
        status = int(args.run(args))
        sys.stdout.flush()
        return status
    except PatcherError as error:
        return _fail(parser.prog, args, name, str(error), 2 if isinstance(error, SettingError) else 1)
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing may be written to it at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(parser.prog, args, name, f"{where}{error.strerror or error}", 1)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _fail(prog: str, args: argparse.Namespace, name: str, message: str, status: int) -> int:
    # A message may quote a file's bytes: nothing of it may move the cursor or forge a second line. No key is quoted.
    line = _KEY_LIKE.sub("(a key)", "".join(character if character.isprintable() else "?" for character in message))
    print(f"{prog} {name}: {line}", file=sys.stderr)
    if getattr(args, "json", False):
        print_json({"error": line})
    return status


class _TopParser(_Parser):
    """Lists the commands by what they are for."""

    def format_help(self) -> str:
        return super().format_help() + grouped({name: _module(name).HELP for name in COMMANDS})


def full_parser() -> argparse.ArgumentParser:
    """With every command, for completions and man pages."""
    return _make_parser(COMMANDS, listed=True)


def _make_parser(names: Sequence[str], *, listed: bool = False) -> argparse.ArgumentParser:
    """The commands are said by group, so they are ``listed`` for other programs alone."""
    parser = _TopParser(
        prog="pypatcher",
        usage=None if listed else "pypatcher COMMAND [ARGUMENT ...]",
        description="Secure, fully decentralized updates for single-file programs on Linux devices. Each command has "
        "its own help with examples: pypatcher COMMAND --help",
        formatter_class=HelpFormatter,
    )
    parser.add_argument(
        "--version", action=_Version, nargs=0, dest=argparse.SUPPRESS, default=argparse.SUPPRESS,
        help="show program's version number and exit",
    )  # fmt: skip
    commands = parser.add_subparsers(
        metavar="COMMAND", prog=parser.prog, parser_class=_Parser, help=None if listed else argparse.SUPPRESS
    )
    for name in names:
        _add_command(commands, name, _module(name))
    return parser


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"pypatcher.cli.{name.replace('-', '_')}")


def _add_command(commands: argparse._SubParsersAction[_Parser], name: str, module: ModuleType) -> None:
    examples = getattr(module, "EXAMPLES", "")
    command = commands.add_parser(
        name,
        help=module.HELP,
        description=module.HELP[0].upper() + module.HELP[1:] + ".",
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=HelpFormatter,
    )
    module.add_arguments(command)
    command.set_defaults(run=module.run)


class _Version(argparse.Action):
    """Says the version when it is asked for: which form runs is known once that is loaded."""

    def __call__(self, parser: argparse.ArgumentParser, *_rest: object) -> NoReturn:
        print(_version_line())
        parser.exit()


def _version_line() -> str:
    from pypatcher import established
    from pypatcher.artifact import hashing, sections

    try:
        ours = version("peerpatcher")
    except PackageNotFoundError:
        ours = "(not installed)"
    compiled = hashing.COMPILED and sections.COMPILED and established.COMPILED
    return f"pypatcher {ours}, {'compiled extensions' if compiled else 'pure Python (no extensions)'}"
