"""Marks on single bytes of an open file by record locks (fcntl(2), F_SETLK, F_GETLK): the two system calls.

A process has them, not a descriptor: no fork inherits them, and its end takes them away. Not here: what a mark means.
"""

from __future__ import annotations

import fcntl
import os
import struct

__all__ = ["mark", "marks"]

_FLOCK = struct.Struct("hhqqi0q")
"""``struct flock``, whose offsets have 64 bits everywhere."""
_LIMIT = 256


def mark(fd: int, offset: int, *, on: bool) -> None:
    """Lock a byte, shared, or unlock it.

    Raises:
        OSError: there are no record locks here.
    """
    fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB if on else fcntl.LOCK_UN, 1, offset)


def marks(fd: int, first: int, after: int) -> dict[int, int]:
    """The bytes from ``first`` on, and before ``after``, that others locked, 256 at most: the offset, and by which pid.

    Raises:
        OSError: there are no record locks here.
    """
    found: dict[int, int] = {}
    ranges = [(first, after)]
    while ranges and len(found) < _LIMIT:
        low, high = ranges.pop()
        if low < high:
            asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, low, high - low, 0)
            kind, _, start, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
            if kind != fcntl.F_UNLCK:
                found[start] = max(pid, 0)
                ranges += [(low, start), (start + 1, high)]
    return found
