"""Hashes and markers of a file: SHA-512 without its region, whole, or both in one pass, in flat memory.

The walk over the file is compiled where it can be (``_speedups/hashing.pyx``), else its pure twin; the hash is
OpenSSL's in both. What a region is, and where it may be, is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

from pypatcher.artifact.region import MARKER_SIZE, REGION_SIZE, marker
from pypatcher.errors import ContentMismatchError, RegionError
from pypatcher.shortage import start_thread

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["COMPILED", "feed", "find_markers", "hash_both", "hash_file", "hash_without_region"]

if os.environ.get("PYPATCHER_NO_EXTENSIONS", "0") in ("", "0"):
    try:
        from pypatcher.artifact._hashing_c import feed, find_all
    except ImportError:
        from pypatcher.artifact._hashing_py import feed, find_all
else:
    from pypatcher.artifact._hashing_py import feed, find_all

COMPILED = not feed.__module__.endswith("_py")
"""Whether the compiled twin is in use."""

_MARKER_LIMIT = 1024
_WORTH_A_THREAD = 4 * 1024 * 1024


def hash_without_region(fd: int, file_size: int, region_offset: int) -> bytes:
    """SHA-512 (64 bytes) over the first ``file_size`` bytes of a file, the 176 at ``region_offset`` cut out.

    Raises:
        ContentMismatchError: the file ends earlier.
        OSError: reading failed.
    """
    state = hashlib.sha512()
    _feed(state, fd, 0, region_offset)
    _feed(state, fd, region_offset + REGION_SIZE, file_size)
    return state.digest()


def hash_file(fd: int) -> bytes:
    """SHA-512 (64 bytes) over a whole file, as long as it is when asked.

    Raises:
        ContentMismatchError: the file became shorter meanwhile.
        OSError: reading failed.
    """
    state = hashlib.sha512()
    _feed(state, fd, 0, os.fstat(fd).st_size)
    return state.digest()


def hash_both(fd: int, file_size: int, region_offset: int) -> tuple[bytes, bytes]:
    """``hash_without_region`` and SHA-512 over the whole file, 64 bytes each.

    Up to the region they are one hash, so a region near the end costs nothing. What follows it is hashed twice, by two
    threads where it is long.

    Raises:
        ContentMismatchError: the file ends before ``file_size``.
        OSError: reading failed.
    """
    end = region_offset + REGION_SIZE
    cut = hashlib.sha512()
    _feed(cut, fd, 0, region_offset)
    whole = cut.copy()
    _feed(whole, fd, region_offset, end)
    if file_size - end < _WORTH_A_THREAD:
        _feed(whole, fd, end, file_size)
        _feed(cut, fd, end, file_size)
        return cut.digest(), whole.digest()
    failures: list[Exception] = []

    def hash_rest() -> None:
        try:
            _feed(whole, fd, end, file_size)
        except (OSError, ContentMismatchError) as error:
            failures.append(error)

    try:
        helper = start_thread(hash_rest, "pypatcher-hash", daemon=False)
    except RuntimeError:  # no room for one: one after the other
        _feed(whole, fd, end, file_size)
        _feed(cut, fd, end, file_size)
        return cut.digest(), whole.digest()
    try:
        _feed(cut, fd, end, file_size)
    finally:
        helper.join()
    if failures:
        raise failures[0]
    return cut.digest(), whole.digest()


def find_markers(fd: int) -> list[int]:
    """Offsets of every bounds marker in a file, in order.

    Raises:
        RegionError: there are more than 1024, which no honest program has.
        OSError: reading failed.
    """
    offsets = find_all(fd, marker(), _MARKER_LIMIT + 1)
    if len(offsets) > _MARKER_LIMIT:
        raise RegionError(f"the file holds more than {_MARKER_LIMIT} markers of {MARKER_SIZE} bytes: it is no program")
    return offsets


def _feed(state: _Hash, fd: int, start: int, stop: int) -> None:
    if feed(state.update, fd, start, stop) != stop - start:
        raise ContentMismatchError(f"the file ended before byte {stop}, while it was read: it is truncated")
