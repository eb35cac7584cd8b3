"""Parts of open files: read or write them, copy them between files, by the file system alone where it can."""

from __future__ import annotations

import contextlib
import errno
import os

from pypatcher.errors import ContentMismatchError

__all__ = ["copy_part", "read_part", "write_part"]

_PIECE = 1 << 20


def read_part(fd: int, size: int, offset: int) -> bytes:
    """All of ``size`` bytes from ``offset`` on.

    Raises:
        ContentMismatchError: the file ends earlier.
        OSError: reading failed.
    """
    found = os.pread(fd, size, offset)
    while len(found) < size:
        if not (more := os.pread(fd, size - len(found), offset + len(found))):
            raise ContentMismatchError("the file ended while it was read: it is truncated")
        found += more
    return found


def write_part(fd: int, data: bytes, offset: int) -> None:
    """All of ``data`` from ``offset`` on, whatever the descriptor's position.

    Raises:
        OSError: the disk is full or broken.
    """
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view, offset = view[count:], offset + count


def copy_part(source: int, start: int, target: int, offset: int, size: int) -> None:
    """``size`` bytes of one file from ``start`` on into another from ``offset`` on.

    Where the file system shares blocks between files they are not written again.

    Raises:
        OSError: the disk is full or broken, or the source ends earlier.
    """
    while size:
        count = 0
        # Not on this kernel, not between these two; whatever it is, writing says what it means.
        with contextlib.suppress(OSError):
            count = os.copy_file_range(source, target, size, start, offset)
        if not count:
            data = os.pread(source, min(size, _PIECE), start)
            if not data:
                raise OSError(errno.EIO, "a file that is here became shorter")
            write_part(target, data, offset)
            count = len(data)
        start, offset, size = start + count, offset + count, size - count
