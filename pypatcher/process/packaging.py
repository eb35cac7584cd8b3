"""Which single file is running, and how it was packed (design.md "Restart").

Lives here: what a packaging is (``Packaging``), what is found of a program (``Program``), and asking every module of
``pypatcher.process.packagings`` about this process, without changing anything. Not here: anything that is true of one
packaging only, whether the file is signed (artifact) or may be replaced (install).

A onefile is two processes: a launcher, which waits for the application and then deletes the unpacked folder, and the
application, which is us. A process that the application started from its own file (a worker of multiprocessing, say)
is no start of the program: ``detect`` refuses it, so that only one process updates.
"""

from __future__ import annotations

import importlib
import pkgutil
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pypatcher.errors import NotSingleFileError
from pypatcher.process import packagings
from pypatcher.process.origin import Origin, without_bundle

__all__ = ["Packaging", "Program", "detect", "known_packagings", "regular_file"]


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
    """

    name: str
    carrier: str
    archive_section: str = ""
    detect: Callable[[], Program | None] | None = None
    has_launcher: bool = False
    variables: tuple[str, ...] = ()
    saved_variables: tuple[tuple[str, str], ...] = ()


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

    def environment(self) -> dict[str, str]:
        """The environment to start it with again: the one it was started with, minus what belongs to its bundle.

        The variables of every packaging are dropped: a zipapp that a onefile started is no part of that bundle.
        """
        own = [name for packaging in known_packagings() for name in packaging.variables]
        folder = None if self.unpacked is None else str(self.unpacked)
        return without_bundle(self.origin.environment, own, dict(self.packaging.saved_variables), folder)


@cache
def known_packagings() -> tuple[Packaging, ...]:
    """What each module of the folder says of itself."""
    names = sorted(found.name for found in pkgutil.iter_modules(packagings.__path__))
    return tuple(importlib.import_module(f"{packagings.__name__}.{name}").PACKAGING for name in names)


def detect() -> Program:
    """The single-file program that this process is; call it early, before the application changed its surroundings.

    Raises:
        NotSingleFileError: this is plain ``python script.py``, an interactive session, a one-folder bundle, or a
            worker process of a single-file program.
    """
    _refuse_workers()
    names = []
    for packaging in known_packagings():
        if packaging.detect is not None:
            program = packaging.detect()
            if program is not None:
                return program
            names.append(packaging.name)
    raise NotSingleFileError(f"this is no single-file program ({', '.join(names)}): nothing here could be replaced")


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


def _refuse_workers() -> None:
    """A worker of multiprocessing imports ``__main__`` again; that is no start of the program."""
    module = sys.modules.get("multiprocessing.process")
    if module is not None and module.parent_process() is not None:
        raise NotSingleFileError("this is a worker process of multiprocessing; only the first process updates")
