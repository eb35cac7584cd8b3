"""Which target this device is: that of the program's file, else the interpreter's, never the kernel's."""

from __future__ import annotations

import os
from pathlib import Path

from pypatcher.artifact import check_device, program_target
from pypatcher.errors import WrongTargetError
from pypatcher.targets import Target, find_target

__all__ = ["own_target"]


def own_target(program: Path, executable: Path) -> Target:
    """The target of a program that runs here.

    Args:
        program: its file; a zipapp may fit several targets.
        executable: what executes it: the file itself, or a zipapp's interpreter.

    Raises:
        WrongTargetError: it is for none that we know, or this device's processor is below it.
        ArtifactError: a file is neither ELF nor a zipapp.
        OSError: a file cannot be read.
    """
    names = _targets_of(program)
    if len(names) > 1:
        names &= _targets_of(executable)
    if len(names) != 1:
        raise WrongTargetError(f"{program} is for no target that pypatcher knows")
    target = find_target(next(iter(names)))
    check_device(target)
    return target


def _targets_of(path: Path) -> frozenset[str]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return program_target(descriptor)
    finally:
        os.close(descriptor)
