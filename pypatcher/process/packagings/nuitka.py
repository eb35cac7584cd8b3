"""A Nuitka onefile: a bootstrap, which unpacks a folder, starts the application in it and waits for it.

It is told by ``__compiled__.onefile``, in older versions by ``NUITKA_ONEFILE_PARENT``, which names the bootstrap; P is
the bootstrap's executable. The application's files follow the ELF program, so its region is the last bytes. To its
application the bootstrap makes SIGINT of SIGTERM, and SIGKILL follows after 5 s; by SIGHUP and the like it ends alone.
Not here: how a onefile is restarted (``process.plan``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pypatcher.errors import NotSingleFileError
from pypatcher.process.children import descendants
from pypatcher.process.origin import Origin
from pypatcher.process.packaging import Packaging, Program, regular_file

__all__ = ["PACKAGING"]


def _detect() -> Program | None:
    compiled = getattr(sys.modules.get("__main__"), "__compiled__", None)
    if compiled is None:
        return None
    # Older Nuitka has no `onefile` there; its launcher always says who it is.
    parent = os.environ.get("NUITKA_ONEFILE_PARENT", "")
    if not getattr(compiled, "onefile", parent != ""):
        raise NotSingleFileError("this Nuitka build is no onefile; build it with --onefile to let it update itself")
    if parent != str(os.getppid()):
        raise NotSingleFileError("our parent is not the launcher of this Nuitka onefile; only the first one updates")
    try:
        path = regular_file(Path(str(Path(f"/proc/{parent}/exe").readlink()).removesuffix(" (deleted)")))
    except OSError as error:
        raise NotSingleFileError(f"the launcher of this Nuitka onefile (process {parent}) cannot be read") from error
    started_as = getattr(compiled, "original_argv0", None) or sys.orig_argv[0]
    # The running binary lies in the unpacked folder itself; a build with another folder layout names it.
    unpacked = getattr(compiled, "python_runtime_dir", None) or Path("/proc/self/exe").readlink().parent
    return Program(
        path,
        PACKAGING,
        path,
        (started_as, *sys.orig_argv[1:]),
        Origin.of_this_process(),
        launcher=os.getppid(),
        unpacked=Path(unpacked),
    )


def _application(launcher: int) -> int | None:
    pid = next(iter(descendants(launcher)), None)
    try:
        environment = b"" if pid is None else Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return None
    return pid if f"NUITKA_ONEFILE_PARENT={launcher}".encode() in environment.split(b"\0") else None


PACKAGING = Packaging(
    "Nuitka onefile",
    carrier="tail",
    detect=_detect,
    has_launcher=True,
    variables=("NUITKA_ONEFILE_*",),
    application=_application,
)
