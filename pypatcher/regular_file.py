"""Opens a regular file for reading, or nothing: whatever lies there under a name that somebody else controls.

Opening a named pipe would wait for ever, and opening a device does something: a watchdog starts, a tape winds back. So
what a name leads to is looked at before it is opened, and what was looked at is what is opened. Not here: whose links
may be followed (``trusted_path``), and what the file says.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["open_regular", "read_regular"]

_LOOK = os.O_PATH | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK


def open_regular(path: Path | str, *, folder: int | None = None, follow: bool = True) -> int:
    """A descriptor for reading.

    Args:
        folder: a descriptor of the one that ``path`` begins in.
        follow: whether its last name may be a link.

    Raises:
        OSError: it is missing, cannot be read, or is no regular file.
    """
    links = 0 if follow else os.O_NOFOLLOW
    seen = os.open(path, _LOOK | links, dir_fd=folder)
    try:
        _check(seen, path)
        try:
            return os.open(f"/proc/self/fd/{seen}", _READ)
        except FileNotFoundError:
            pass  # nothing is mounted there
    finally:
        os.close(seen)
    opened = os.open(path, _READ | links, dir_fd=folder)
    try:
        _check(opened, path)
    except OSError:
        os.close(opened)
        raise
    return opened


def read_regular(path: Path | str, limit: int, *, folder: int | None = None, follow: bool = True) -> bytes:
    """The first ``limit`` bytes of a file, or all of a shorter one; see `open_regular`.

    Raises:
        OSError: see `open_regular`.
    """
    with os.fdopen(open_regular(path, folder=folder, follow=follow), "rb") as file:
        return file.read(limit)


def _check(fd: int, path: Path | str) -> None:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
