"""The pure twin of ``_speedups/hashing.pyx``: walk a file with a bounded buffer. Same functions, same answers."""

from __future__ import annotations

import os
from collections.abc import Callable

__all__ = ["feed", "find_all"]

_CHUNK = 256 * 1024


def feed(update: Callable[[memoryview], object], fd: int, start: int, stop: int) -> int:
    """Call ``update`` with the bytes from ``start`` to ``stop`` of a file, piece by piece; returns how many there were.

    The pieces are views of one buffer of 256 KiB and valid only during the call. The file's position is not used.

    Raises:
        ValueError: ``start`` is negative or above ``stop``.
        OSError: reading failed.
    """
    if start < 0 or stop < start:
        raise ValueError("feed needs 0 <= start <= stop")
    view = memoryview(bytearray(_CHUNK))
    offset = start
    while offset < stop:
        count = os.preadv(fd, [view[: min(_CHUNK, stop - offset)]], offset)
        if count == 0:
            break
        update(view[:count])
        offset += count
    return offset - start


def find_all(fd: int, needle: bytes, limit: int) -> list[int]:
    """Offsets of every occurrence of ``needle`` in a file, overlapping ones too, but at most ``limit`` of them.

    Raises:
        ValueError: ``needle`` is empty or longer than 4096 bytes.
        OSError: reading failed.
    """
    keep = len(needle) - 1
    if not 0 <= keep < 4096:
        raise ValueError("find_all needs a needle of 1 to 4096 bytes")
    buffer = bytearray(_CHUNK + keep)
    view = memoryview(buffer)
    found: list[int] = []
    base = filled = 0
    while len(found) < limit:
        count = os.preadv(fd, [view[filled : filled + _CHUNK]], base + filled)
        if count == 0:
            break
        filled += count
        at = buffer.find(needle, 0, filled)
        while at >= 0 and len(found) < limit:
            found.append(base + at)
            at = buffer.find(needle, at + 1, filled)
        kept = min(keep, filled)
        view[:kept] = bytes(view[filled - kept : filled])
        base += filled - kept
        filled = kept
    return found
