"""A zipapp (also shiv): an archive that Python runs by its path, in one process.

It is told by a ``__main__`` that comes from a zipimporter, and P is that archive. It restarts by exec in its own place,
with the interpreter and its options. Its region is the zip comment. Not here: the archive's bytes
(``artifact.zipapp``).
"""

from __future__ import annotations

import sys
import zipimport
from collections.abc import Mapping
from pathlib import Path

from pypatcher.errors import NotSingleFileError
from pypatcher.process.origin import Origin
from pypatcher.process.packaging import Packaging, Program, regular_file

__all__ = ["PACKAGING"]


def _detect() -> Program | None:
    main = sys.modules.get("__main__")
    loader = getattr(main, "__loader__", None)
    if not isinstance(loader, zipimport.zipimporter):
        return None
    path = regular_file(Path(loader.archive))
    argv = list(sys.orig_argv)
    script = next((number for number, part in enumerate(argv) if number and _same(part, path)), None)
    origin = Origin.of_this_process()
    if script is None:  # a daemon may have changed its directory since
        script = next((number for number, part in enumerate(argv) if number and _is_lost(part, path)), None)
        if script is None:
            raise NotSingleFileError(f"{path} was not started by its path (python {path.name}): it cannot be restarted")
        argv[script] = str(path)
    if origin.directory is None:
        argv[script] = str(path)
    interpreter = Path(sys.executable) if sys.executable else Path("/proc/self/exe").resolve()
    return Program(path, PACKAGING, interpreter, tuple(argv), origin)


def _same(part: str, path: Path) -> bool:
    try:
        return Path(part).samefile(path)
    except (OSError, ValueError):
        return False


def _is_lost(part: str, path: Path) -> bool:
    """Whether this may be ``path`` as seen from a folder that we have left."""
    return Path(part).name == path.name and not Path(part).is_absolute() and not Path(part).exists()


def _was_replaced(program: Program, other: Path) -> bool:
    """By the archive's directory, which the interpreter read at its start and remembers."""
    loader = getattr(sys.modules.get("__main__"), "__loader__", None)
    try:
        loaded = _entries(zipimport._zip_directory_cache[loader.archive])  # type: ignore[attr-defined, union-attr]
        read = zipimport._read_directory  # type: ignore[attr-defined]
        return loaded == _entries(read(str(other))) != _entries(read(str(program.path)))
    except (AttributeError, KeyError, OSError, zipimport.ZipImportError):
        return False


def _entries(directory: Mapping[str, tuple[object, ...] | None]) -> dict[str, tuple[object, ...]]:
    """Sizes, places and sums of what is in an archive, wherever that lies."""
    return {name: entry[1:] for name, entry in directory.items() if entry is not None}


PACKAGING = Packaging("zipapp", carrier="comment", detect=_detect, was_replaced=_was_replaced)
