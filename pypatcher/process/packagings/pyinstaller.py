"""A PyInstaller onefile: a bootloader, which unpacks a folder ``_MEI...``, starts the application and waits for it.

It is told by ``sys.frozen`` and that folder; P is ``sys.executable``. The bootloader hands the application variables of
its own, and a library path beside which it keeps the one that it found. It looks for its archive near the end of the
file (bootloader 6: in the ELF section ``pydata``), so its region is the last bytes and the file gets no new table.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pypatcher.errors import NotSingleFileError
from pypatcher.process.origin import Origin
from pypatcher.process.packaging import Packaging, Program, regular_file

__all__ = ["PACKAGING"]


def _detect() -> Program | None:
    if not (getattr(sys, "frozen", False) and hasattr(sys, "_MEIPASS")):
        return None
    unpacked = Path(sys._MEIPASS)
    if not unpacked.name.startswith("_MEI"):
        raise NotSingleFileError(
            f"{sys.executable} is a one-folder PyInstaller bundle; build it with --onefile to let it update itself"
        )
    # The bootloader counts what it starts: the application is started by level 0, its own children by 1 and above.
    if _initial_environment().get("_PYI_PARENT_PROCESS_LEVEL", "0") != "0":
        raise NotSingleFileError(f"this process was started by {sys.executable} itself; only the first process updates")
    path = regular_file(Path(sys.executable))
    return Program(
        path,
        PACKAGING,
        path,
        tuple(sys.orig_argv),
        Origin.of_this_process(),
        launcher=_launcher_of(path, sys.orig_argv),
        unpacked=unpacked,
    )


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


PACKAGING = Packaging(
    "PyInstaller onefile",
    carrier="tail",
    archive_section="pydata",
    detect=_detect,
    has_launcher=True,
    variables=("_MEIPASS2", "_PYI_*"),
    saved_variables=(("LD_LIBRARY_PATH", "LD_LIBRARY_PATH_ORIG"),),
)
