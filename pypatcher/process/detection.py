"""Which packaging this process is of, asked of every module of ``pypatcher.process.packagings``; nothing is changed.

A process that the application started from its own file (a worker of multiprocessing, say) is no start of the program:
it is refused, so that only one process updates. Whether the file is signed, or may be replaced, is not decided here.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from pypatcher.errors import NotSingleFileError
from pypatcher.process import packagings
from pypatcher.process.children import descendants
from pypatcher.process.origin import without_bundle
from pypatcher.process.packaging import Packaging, Program

# By name, too: bundlers such as Nuitka follow imports, and do not look into folders.
from pypatcher.process.packagings import native, nuitka, pyinstaller, zipapp

__all__ = ["application_of", "detect", "is_launcher", "known_packagings", "start_environment"]


@cache
def known_packagings() -> tuple[Packaging, ...]:
    """What each module of the folder says of itself."""
    named = {module.__name__.rpartition(".")[2] for module in (native, nuitka, pyinstaller, zipapp)}
    names = sorted(named | {found.name for found in pkgutil.iter_modules(packagings.__path__)})
    return tuple(importlib.import_module(f"{packagings.__name__}.{name}").PACKAGING for name in names)


def detect() -> Program:
    """The single-file program that this process is; call it early, before the application changed its surroundings.

    Raises:
        NotSingleFileError: this is plain ``python script.py``, an interactive session, a one-folder bundle, or a
            worker process of a single-file program.
    """
    _refuse_workers()
    _refuse_greenlets()
    names = []
    for packaging in known_packagings():
        if packaging.detect is not None:
            program = packaging.detect()
            if program is not None:
                return program
            names.append(packaging.name)
    raise NotSingleFileError(f"this is no single-file program ({', '.join(names)}): nothing here could be replaced")


def start_environment(program: Program) -> dict[str, str]:
    """The environment to start it with again: the one it was started with, minus what belongs to its bundle.

    The variables of every packaging are dropped: a zipapp that a onefile started is no part of that bundle.
    """
    own = [name for packaging in known_packagings() for name in packaging.variables]
    folder = None if program.unpacked is None else str(program.unpacked)
    return without_bundle(program.origin.environment, own, dict(program.packaging.saved_variables), folder)


def application_of(pid: int) -> int:
    """The process that is to hear the signals that are meant for the program with process id ``pid``.

    It itself, unless it is a launcher that would make others of them.
    """
    found = (packaging.application(pid) for packaging in known_packagings() if packaging.application is not None)
    return next((application for application in found if application is not None), pid)


def is_launcher(pid: int) -> bool:
    """Whether the process is a onefile's launcher, as what it handed to a process below it tells."""
    patterns = [name for packaging in known_packagings() if packaging.has_launcher for name in packaging.variables]
    names = {name for below in descendants(pid) for name in _names(below)}
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _names(pid: int) -> list[str]:
    """Of the variables that a process was started with; none, where that is not ours to see."""
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
    return [os.fsdecode(entry.partition(b"=")[0]) for entry in entries]


def _refuse_workers() -> None:
    """A worker of multiprocessing imports ``__main__`` again; that is no start of the program."""
    module = sys.modules.get("multiprocessing.process")
    if module is not None and module.parent_process() is not None:
        raise NotSingleFileError("this is a worker process of multiprocessing; only the first process updates")


def _refuse_greenlets() -> None:
    """Where threads are greenlets the node would run in the application's thread, and block its signals."""
    for library, module, patched in (
        ("gevent", sys.modules.get("gevent.monkey"), "is_module_patched"),
        ("eventlet", sys.modules.get("eventlet.patcher"), "is_monkey_patched"),
    ):
        if module is not None and getattr(module, patched)("threading" if library == "gevent" else "thread"):
            raise NotSingleFileError(
                f"{library} has replaced the threads of this process, and a node needs a real one: patch all but "
                "threads, or let `pypatcher run` keep the program up to date"
            )
