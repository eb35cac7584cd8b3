"""How a program learns that ``pypatcher run`` keeps it up to date, so that it starts no second node.

By one variable that names the program: what the program starts inherits it, and is meant only if it is the same file.
"""

from __future__ import annotations

import os
from pathlib import Path

from pypatcher.process.packaging import Program

__all__ = ["RUN_VARIABLE", "is_under_run", "told_of_run"]

RUN_VARIABLE = "PYPATCHER_RUN"


def told_of_run(program: Path) -> dict[str, str]:
    """What ``run`` puts into the environment of its program."""
    return {RUN_VARIABLE: os.path.realpath(program)}


def is_under_run(program: Program) -> bool:
    """Does ``run`` keep ``program`` up to date, which is this process?"""
    return program.origin.environment.get(RUN_VARIABLE) == os.path.realpath(program.path)
