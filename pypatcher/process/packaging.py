"""Which single file is running, and how it was packed (design.md "Restart").

Lives here: the words for it, ``Packaging`` and ``Program``. Not here: anything that is true of one packaging only
(``packagings``), and asking each of them about this process (``detection``).

A onefile is two processes: a launcher, which waits for the application and then deletes the unpacked folder, and the
application, which is us.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pypatcher.errors import NotSingleFileError
from pypatcher.process.origin import Origin

__all__ = ["Packaging", "Program", "executes", "has_lost_its_bundle", "regular_file"]

_BUNDLE_GOES, _POLL = 1.0, 0.05
"""Seconds for a launcher to delete what it unpacked."""


def executes(program: Program, other: Path) -> bool:
    """Whether the kernel executes that file in us or our launcher, and P is another one."""
    try:
        known, now = other.stat(), program.path.stat()
        images = [Path(f"/proc/{pid}/exe").stat() for pid in (os.getpid(), program.launcher) if pid is not None]
    except OSError:
        return False
    return not os.path.samestat(known, now) and any(os.path.samestat(known, image) for image in images)


@dataclass(frozen=True, slots=True)
class Packaging:
    """How a single file is made, as a module of ``packagings`` describes it.

    Attributes:
        name: as people know it.
        carrier: where ``embed`` puts its region, as ``artifact.Carrier`` names it.
        archive_section: the ELF section by which ``embed`` knows such a file; empty if there is none.
        detect: finds out whether this process is one: None if it is not, ``NotSingleFileError`` if it is one that
            cannot be updated. Without it no Python process is one.
        has_launcher: a onefile, that is two processes: it cannot restart by exec in its own place.
        variables: what its launcher adds to the environment; a ``*`` at the end stands for anything.
        saved_variables: pairs of a variable that its launcher changes and the one where it keeps the value found.
        was_replaced: whether this process was loaded from that other file, and not from what is at P now.
        application: the process that the launcher with that number waits for; of a launcher that does not pass on to it
            the signals that it is sent. None: there is none.
    """

    name: str
    carrier: str
    archive_section: str = ""
    detect: Callable[[], Program | None] | None = None
    has_launcher: bool = False
    variables: tuple[str, ...] = ()
    saved_variables: tuple[tuple[str, str], ...] = ()
    was_replaced: Callable[[Program, Path], bool] = executes
    application: Callable[[int], int | None] | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """A single-file program and all that is needed to start it again.

    ``path`` is P: absolute, links resolved, a regular file. ``executable`` with ``argv`` is what to execute (for a
    zipapp the interpreter with its options). ``launcher`` is the process id of a onefile's launcher, None where there
    is none (any more). ``unpacked`` is a onefile bundle's own folder.
    """

    path: Path
    packaging: Packaging
    executable: Path
    argv: tuple[str, ...]
    origin: Origin
    launcher: int | None = None
    unpacked: Path | None = None


def has_lost_its_bundle(program: Program) -> bool:
    """Whether this is a onefile that made a daemon of itself: its launcher saw its end, and deleted what it unpacked.

    Waits while that may be under way. A launcher that was killed deletes nothing.
    """
    if program.launcher is not None or program.unpacked is None:
        return False
    deadline = time.monotonic() + _BUNDLE_GOES
    while program.unpacked.is_dir() and time.monotonic() < deadline:
        time.sleep(_POLL)
    return not program.unpacked.is_dir()


def regular_file(path: Path) -> Path:
    """``path``, absolute and with every link resolved.

    Raises:
        NotSingleFileError: no regular file is there.
    """
    try:
        resolved = path.resolve(strict=True)
        mode = resolved.stat().st_mode
    except OSError as error:
        raise NotSingleFileError(f"there is no program at {path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise NotSingleFileError(f"{resolved} is not a regular file, so it cannot be replaced")
    return resolved
