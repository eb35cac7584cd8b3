"""Which single file is running, and how it was packed (design.md "Restart").

Lives here: looking at this process, its launcher and ``__main__``, without changing anything. Not here: whether the
file is signed (artifact) or may be replaced (install).

| packaging | how it is told | P |
| --- | --- | --- |
| PyInstaller onefile | ``sys.frozen`` and an unpacked folder ``_MEI...`` | ``sys.executable`` |
| Nuitka onefile | ``__compiled__.onefile``, or ``NUITKA_ONEFILE_PARENT`` is our parent | the launcher's executable |
| zipapp (also shiv) | ``__main__`` comes from a zipimporter, and the archive was started by its path | the archive |
| ELF | another program, started by ``pypatcher run`` | as given on its command line |

Both onefile packagings are two processes: a launcher, which waits for the application and then deletes the unpacked
folder, and the application, which is us. A process that the application started from its own file (a worker of
multiprocessing, say) is no start of the program: ``detect`` refuses it, so that only one process updates.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
import zipimport
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from pypatcher.errors import NotSingleFileError
from pypatcher.process.origin import Origin, without_bundle

__all__ = ["Packaging", "Program", "detect", "native"]


class Packaging(Enum):
    """How the single file was made."""

    ELF = "ELF"
    ZIPAPP = "zipapp"
    PYINSTALLER = "PyInstaller onefile"
    NUITKA = "Nuitka onefile"

    @property
    def is_onefile(self) -> bool:
        """Two processes: a launcher, and the application unpacked by it."""
        return self in (Packaging.PYINSTALLER, Packaging.NUITKA)


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
        """The environment to start it with again: the one it was started with, minus what belongs to its bundle."""
        return without_bundle(self.origin.environment, None if self.unpacked is None else str(self.unpacked))


def detect() -> Program:
    """The single-file program that this process is; call it early, before the application changed its surroundings.

    Raises:
        NotSingleFileError: this is plain ``python script.py``, an interactive session, a one-folder bundle, or a
            worker process of a single-file program.
    """
    _refuse_workers()
    if getattr(sys, "frozen", False) and hasattr(sys, "_MEIPASS"):
        return _pyinstaller(Path(sys._MEIPASS))
    compiled = getattr(sys.modules.get("__main__"), "__compiled__", None)
    if compiled is not None:
        return _nuitka(compiled)
    return _zipapp()


def native(path: str | Path, arguments: tuple[str, ...]) -> Program:
    """A program that ``pypatcher run`` starts: ``path`` as typed (a bare name is looked up in PATH), and what follows.

    A path where nothing is yet, or any more, is accepted: the install room may have a way back for it.

    Raises:
        NotSingleFileError: a bare name is not in PATH, or what is there is no regular file.
    """
    typed = os.fspath(path)
    found = typed if os.sep in typed else shutil.which(typed)
    if found is None:
        raise NotSingleFileError(f"{typed} is not in PATH; give the program's path, such as ./{typed}")
    resolved = Path(found).resolve()
    if resolved.exists() and not resolved.is_file():
        raise NotSingleFileError(f"{resolved} is not a regular file, so it cannot be replaced")
    return Program(resolved, Packaging.ELF, resolved, (typed, *arguments), Origin.of_this_process())


def _pyinstaller(unpacked: Path) -> Program:
    if not unpacked.name.startswith("_MEI"):
        raise NotSingleFileError(
            f"{sys.executable} is a one-folder PyInstaller bundle; build it with --onefile to let it update itself"
        )
    # The bootloader counts what it starts: the application is started by level 0, its own children by 1 and above.
    if _initial_environment().get("_PYI_PARENT_PROCESS_LEVEL", "0") != "0":
        raise NotSingleFileError(f"this process was started by {sys.executable} itself; only the first process updates")
    path = _regular(Path(sys.executable))
    return Program(
        path,
        Packaging.PYINSTALLER,
        path,
        tuple(sys.orig_argv),
        Origin.of_this_process(),
        launcher=_launcher_of(path, sys.orig_argv),
        unpacked=unpacked,
    )


def _nuitka(compiled: object) -> Program:
    # Older Nuitka has no `onefile` there; its launcher always says who it is.
    parent = os.environ.get("NUITKA_ONEFILE_PARENT", "")
    if not getattr(compiled, "onefile", parent != ""):
        raise NotSingleFileError("this Nuitka build is no onefile; build it with --onefile to let it update itself")
    if parent != str(os.getppid()):
        raise NotSingleFileError("our parent is not the launcher of this Nuitka onefile; only the first one updates")
    try:
        path = _regular(Path(str(Path(f"/proc/{parent}/exe").readlink()).removesuffix(" (deleted)")))
    except OSError as error:
        raise NotSingleFileError(f"the launcher of this Nuitka onefile (process {parent}) cannot be read") from error
    started_as = getattr(compiled, "original_argv0", None) or sys.orig_argv[0]
    # The running binary lies in the unpacked folder itself; a build with another folder layout names it.
    unpacked = getattr(compiled, "python_runtime_dir", None) or Path("/proc/self/exe").readlink().parent
    return Program(
        path,
        Packaging.NUITKA,
        path,
        (started_as, *sys.orig_argv[1:]),
        Origin.of_this_process(),
        launcher=os.getppid(),
        unpacked=Path(unpacked),
    )


def _zipapp() -> Program:
    main = sys.modules.get("__main__")
    loader = getattr(main, "__loader__", None)
    if not isinstance(loader, zipimport.zipimporter):
        raise NotSingleFileError(
            "this is no single-file program (PyInstaller or Nuitka onefile, zipapp): nothing here could be replaced"
        )
    path = _regular(Path(loader.archive))
    script = next((number for number, part in enumerate(sys.orig_argv) if number and _same(part, path)), None)
    if script is None:
        raise NotSingleFileError(f"{path} was not started by its path (python {path.name}), so it cannot be restarted")
    argv = list(sys.orig_argv)
    origin = Origin.of_this_process()
    if origin.directory is None:
        argv[script] = str(path)
    interpreter = Path(sys.executable) if sys.executable else Path("/proc/self/exe").resolve()
    return Program(path, Packaging.ZIPAPP, interpreter, tuple(argv), origin)


def _refuse_workers() -> None:
    """A worker of multiprocessing imports ``__main__`` again; that is no start of the program."""
    module = sys.modules.get("multiprocessing.process")
    if module is not None and module.parent_process() is not None:
        raise NotSingleFileError("this is a worker process of multiprocessing; only the first process updates")


def _regular(path: Path) -> Path:
    """``path``, absolute and with every link resolved, if a regular file is there."""
    try:
        resolved = path.resolve(strict=True)
        mode = resolved.stat().st_mode
    except OSError as error:
        raise NotSingleFileError(f"there is no program at {path}: {error.strerror}") from error
    if not stat.S_ISREG(mode):
        raise NotSingleFileError(f"{resolved} is not a regular file, so it cannot be replaced")
    return resolved


def _same(part: str, path: Path) -> bool:
    try:
        return Path(part).samefile(path)
    except (OSError, ValueError):
        return False


def _initial_environment() -> dict[str, str]:
    """What exec handed to this process; unlike ``os.environ`` untouched by the bootloader and by hooks."""
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    pairs = (os.fsdecode(entry).partition("=") for entry in entries)
    return {name: value for name, _, value in pairs}


def _launcher_of(path: Path, argv: list[str]) -> int | None:
    """Our parent's process id if it is our launcher; None once that was killed and another has adopted us."""
    parent = os.getppid()
    try:
        # Read as a link: the file at P may have been replaced since, then the kernel says "(deleted)".
        if str(Path(f"/proc/{parent}/exe").readlink()).removesuffix(" (deleted)") == str(path):
            return parent
        # Where an emulator runs both, that is the emulator; the command line is the launcher's own.
        words = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return None
    return parent if words[-len(argv) :] == [os.fsencode(word) for word in argv] else None
