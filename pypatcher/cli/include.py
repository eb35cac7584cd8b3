"""``pypatcher include``: prints where the C header is, and nothing else."""

from __future__ import annotations

import argparse
import shlex
from importlib.resources import files

__all__ = ["EXAMPLES", "HELP", "add_arguments", "run"]

HELP = "print the folder of the C header pypatcher.h"
EXAMPLES = """\
  cc $(pypatcher include --cflags) -o app app.c       where app.c begins with:
                                                      #define PYPATCHER_VERSION "1.4.0"
                                                      #include <pypatcher.h>"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``include``."""
    parser.add_argument("--cflags", action="store_true", help="print it as a compiler's option")


def run(args: argparse.Namespace) -> int:
    """Print the folder."""
    folder = str(files("pypatcher") / "include")
    print(f"-I{shlex.quote(folder)}" if args.cflags else folder)
    return 0
