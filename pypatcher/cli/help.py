"""How help is laid out: commands by what they are for, and every line as wide as the terminal, 60 columns too.

Only text: no command is run or imported here, and what a command takes is its own module's.
"""

from __future__ import annotations

import argparse
import re
import shutil
import textwrap
from collections.abc import Mapping

__all__ = ["GROUPS", "HelpFormatter", "grouped"]

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("make a release", ("gen", "embed", "include", "sign", "rollout", "verify", "inspect", "compare", "check-build")),
    ("hand it out, or get one", ("seed", "publish", "lookup", "fetch")),
    ("run a program that updates itself", ("run", "unit", "guard")),
    ("look after a device", ("status", "confirm", "rollback", "adopt", "stage")),
    ("look at the network, or have one of your own", ("netcheck", "testnet")),
    ("set up the shell", ("completion",)),
)
"""Every command, in the order of a release's life."""

_WIDEST = 100
_INDENT = 16


class HelpFormatter(argparse.HelpFormatter):
    """Wraps everything, the examples too: a command line that is too long goes on behind a backslash."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=24, width=_width())

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if not text.startswith("examples:\n"):
            return super()._fill_text(text, width, indent)
        blocks = text.removeprefix("examples:\n").split("\n\n")
        return "\n\n".join(
            ["examples:\n" + _commands(blocks[0], width), *(_prose(block, width) for block in blocks[1:])]
        )

    def _format_usage(self, usage: str | None, *rest: object) -> str:
        if usage is None or usage == argparse.SUPPRESS:
            text = super()._format_usage(usage, *rest)  # type: ignore[arg-type]
            if all(len(line) <= self._width for line in text.splitlines()):
                return text
            usage = " ".join(text.split()).removeprefix("usage: ")
        lines = textwrap.wrap(f"usage: {usage}", self._width, subsequent_indent=" " * 7, break_on_hyphens=False)
        return "\n".join(lines) + "\n\n"


def grouped(helps: Mapping[str, str]) -> str:
    """The commands with what each does, by group."""
    lines: list[str] = []
    for title, commands in GROUPS:
        lines += ["", f"{title}:"]
        lines += [_entry(name, helps[name]) for name in commands]
    return "\n".join(lines) + "\n"


def _entry(name: str, text: str) -> str:
    return textwrap.fill(text, _width(), initial_indent=f"    {name:<{_INDENT - 4}}", subsequent_indent=" " * _INDENT)


def _width() -> int:
    return min(_WIDEST, shutil.get_terminal_size().columns - 2)


def _commands(block: str, width: int) -> str:
    return "\n".join(_command(line.strip(), width) for line in block.splitlines())


def _command(line: str, width: int) -> str:
    """One command; what stands behind it after some spaces says what it does."""
    command, _, remark = re.sub(r" {3,}", "\0", line).partition("\0")
    if 2 + len(line) <= width:
        return f"  {line}"
    words = textwrap.wrap(command, width - 6, break_long_words=False, break_on_hyphens=False)
    lines = [f"  {words[0]}", *(f"      {word}" for word in words[1:])]
    said = [] if not remark else [textwrap.fill(f"({remark.strip('()')})", width, initial_indent="      ",
                                                subsequent_indent="      ")]  # fmt: skip
    return "\n".join([" \\\n".join(lines), *said])


def _prose(block: str, width: int) -> str:
    if all(line.startswith("  ") for line in block.splitlines()):
        return _commands(block, width)
    return textwrap.fill(" ".join(block.split()), width, break_on_hyphens=False)
