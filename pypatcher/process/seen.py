"""Which processes run from a program's file, as anybody sees it in ``/proc``; changes and opens nothing of theirs.

A process counts if it executes the file, or is an interpreter whose script is the file. What a process is cannot be
seen of another user's unless we are root: then it is not found.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SeenProcess", "processes_of"]

_TICKS = os.sysconf("SC_CLK_TCK")
_DELETED = " (deleted)"


@dataclass(frozen=True, slots=True)
class SeenProcess:
    """A process that runs from the file: whose it is, and for how many seconds it has run."""

    pid: int
    uid: int
    seconds: float


def processes_of(program: Path) -> Iterator[SeenProcess]:
    """All processes that run from ``program``, an absolute path without links, but ourselves."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            if _runs(entry, program):
                ticks = int((entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[19])
                age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _TICKS
                yield SeenProcess(int(entry.name), entry.stat().st_uid, max(0.0, age))
        except (OSError, ValueError, IndexError):
            continue  # it ended, or is not ours to look at


def _runs(process: Path, program: Path) -> bool:
    executable = str((process / "exe").readlink()).removesuffix(_DELETED)
    if executable == str(program):
        return True
    words = (process / "cmdline").read_bytes().split(b"\0")[1:]
    script = next((os.fsdecode(word) for word in words if word and not word.startswith(b"-")), "")
    if Path(script).name != program.name or "python" not in Path(executable).name:
        return False
    return os.path.realpath((process / "cwd").readlink() / script) == str(program)
