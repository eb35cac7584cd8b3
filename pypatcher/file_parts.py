"""Parts of open files: write them where they belong, copy them between files, by the file system alone where it can."""

from __future__ import annotations

import contextlib
import errno
import os

__all__ = ["copy_part", "write_part"]

_PIECE = 1 << 20


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
