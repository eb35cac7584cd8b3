"""``pypatcher completion``: prints what a shell needs to complete this command, made from the parsers themselves.

By ``shtab``, which is needed here alone (the extra ``completion``): the script that it makes needs nothing.
"""

from __future__ import annotations

import argparse

from pypatcher.errors import SettingError

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print the tab completion of this command for a shell"
SHELLS = ("bash", "zsh", "tcsh")
EXAMPLES = """\
  pypatcher completion bash > /etc/bash_completion.d/pypatcher
  pypatcher completion zsh > /usr/share/zsh/site-functions/_pypatcher

It needs shtab where it is run: pip install '.[completion]'. Man pages: make man."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``completion``."""
    parser.add_argument("shell", choices=SHELLS, help="for which shell")


def run(args: argparse.Namespace) -> int:
    """Print the script.

    Raises:
        SettingError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise SettingError("completion needs shtab here: pip install shtab") from None
    from pypatcher.cli.dispatch import full_parser

    print(shtab.complete(full_parser(), shell=args.shell))
    return 0
