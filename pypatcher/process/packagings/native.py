"""A native program (C, C++, Rust, Go): one ELF file, started by ``pypatcher run`` as its child.

P is the path as given on the command line of ``run``, a bare name looked up in ``PATH``. No process that imports this
package is one, so nothing here looks at this process. ``run`` stops it and starts it again; its region is a section.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pypatcher.errors import NotSingleFileError
from pypatcher.process.origin import Origin
from pypatcher.process.packaging import Packaging, Program

__all__ = ["PACKAGING", "native"]

PACKAGING = Packaging("ELF", carrier="section")


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
    return Program(resolved, PACKAGING, resolved, (typed, *arguments), Origin.of_this_process())
