"""Telling a program that only starts another one (nice, env, python3, ld.so) from the one that is meant.

In ``pypatcher run -- nice ./app`` the program is ``nice``, which nobody signed: to advise that it be embedded would be
about the wrong file. Not here: what ``run`` does then, which is to start it all the same.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pypatcher.errors import PatcherError

__all__ = ["only_starts"]

_LOOKED_AT = 16
"""Arguments among which the program is looked for."""


def only_starts(program: Path, arguments: Sequence[str]) -> str:
    """What to do, in words, if ``program`` carries no region and one of its arguments is a file that does; else ''."""
    if _carries_region(program):
        return ""
    for word in arguments[:_LOOKED_AT]:
        if _carries_region(Path(word)):
            return (
                f"{program.name} only starts {word}, and it is {program.name} that run was given: give run the program "
                f"itself, as in 'pypatcher run ... -- {word}', and put {program.name} before pypatcher if it is needed"
            )
    return ""


def _carries_region(path: Path) -> bool:
    from pypatcher.artifact import locate_region
    from pypatcher.artifact.replace import open_program

    if os.sep not in str(path) and not path.is_file():
        return False
    try:
        with open_program(path) as descriptor:
            locate_region(descriptor)
    except (PatcherError, OSError, ValueError):
        return False
    return True
