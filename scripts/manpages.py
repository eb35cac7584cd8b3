"""Write a man page for every command, from the parsers: manpages.py FOLDER. Needs argparse-manpage."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from argparse_manpage.manpage import Manpage

from pypatcher.cli.dispatch import full_parser


def main() -> None:
    """Write them."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    top = full_parser()
    (commands,) = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    for name, parser in {"pypatcher": top, **commands.choices}.items():
        page = name if parser is top else f"pypatcher-{name}"
        parser.prog = page.replace("-", " ")
        (folder / f"{page}.1").write_text(str(Manpage(parser, format="pretty")), encoding="utf-8")
    print(f"{len(commands.choices) + 1} pages in {folder}")


if __name__ == "__main__":
    main()
