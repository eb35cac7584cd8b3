"""A file cut into chunks where its content says, so that a change moves few cuts; and each chunk's id.

protocol.md "The chunk tree". What lives here: the parameters, the cuts, the ids of leaves. How leaves become a tree is
``tree``'s. The scan is compiled where it can be (``_speedups/chunks.pyx``), else its pure twin; BLAKE2b is hashlib's.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

from pypatcher.errors import ContentMismatchError

__all__ = [
    "COMPILED",
    "ID_SIZE",
    "OPENED",
    "PARAMETERS",
    "Chunk",
    "Parameters",
    "cut_file",
    "cut_filled",
    "leaf_id",
    "parameters_for",
]

if os.environ.get("PYPATCHER_NO_EXTENSIONS", "0") in ("", "0"):
    try:
        from pypatcher.artifact._chunks_c import find_cut
    except ImportError:
        from pypatcher.artifact._chunks_py import find_cut
else:
    from pypatcher.artifact._chunks_py import find_cut

COMPILED = not find_cut.__module__.endswith("_py")
"""Whether the compiled twin is in use."""
ID_SIZE = 16
_LEAF = b"pypatcher leaf"
_GEAR_DOMAIN = b"pypatcher gear"
_BUFFER = 1 << 20
_SMALL_FILE = 256 << 20
OPENED = 128
"""What is added to the parameters' number of a tree over opened content."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """Where chunks are cut: sizes in bytes, and how many of 64 bits of the rolling sum must be 0, as shifts."""

    number: int
    minimum: int
    normal: int
    maximum: int
    early: int
    late: int

    @property
    def limits(self) -> tuple[int, int, int, int, int]:
        """As ``find_cut`` takes them."""
        return self.minimum, self.normal, self.maximum, self.early, self.late


PARAMETERS = {
    1: Parameters(1, 1024, 4096, 16384, 50, 54),
    2: Parameters(2, 4096, 16384, 65536, 48, 52),
}
PARAMETERS |= {OPENED + number: replace(each, number=OPENED + number) for number, each in PARAMETERS.items()}


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a file."""

    offset: int
    size: int
    id: bytes


def parameters_for(size: int, *, opened: bool = False) -> Parameters:
    """Those of a file of so many bytes: 1 up to 256 MiB, 2 above; 129 and 130 of opened content of so many."""
    return PARAMETERS[(1 if size <= _SMALL_FILE else 2) + (OPENED if opened else 0)]


def leaf_id(chunk: bytes | memoryview) -> bytes:
    """The 16 bytes that name a chunk by its content."""
    return hashlib.blake2b(chunk, digest_size=ID_SIZE, person=_LEAF).digest()


def cut_file(fd: int, size: int, parameters: Parameters) -> Iterator[Chunk]:
    """The chunks of the first ``size`` bytes of a file, in order.

    Raises:
        ContentMismatchError: the file ends earlier.
        OSError: reading failed.
    """
    done = 0

    def fill(room: memoryview) -> int:
        nonlocal done
        count = os.preadv(fd, [room[: size - done]], done)
        if count == 0 and done < size:
            raise ContentMismatchError(f"the file ended before byte {size}, while it was read: it is truncated")
        done += count
        return count

    return cut_filled(fill, parameters)


def cut_filled(fill: Callable[[memoryview], int], parameters: Parameters) -> Iterator[Chunk]:
    """The chunks of what ``fill`` puts into the room that it is given, until it says 0; a buffer of 1 MiB."""
    gear, limits = _gear(), parameters.limits
    buffer = memoryview(bytearray(_BUFFER))
    base = start = filled = 0
    is_over = False
    while True:
        if filled - start < parameters.maximum and not is_over:
            buffer[: filled - start] = bytes(buffer[start:filled])
            base, filled, start = base + start, filled - start, 0
            count = fill(buffer[filled:])
            filled, is_over = filled + count, not count
        elif start == filled:
            return
        else:
            length = find_cut(buffer[:filled], start, gear, limits)
            yield Chunk(base + start, length, leaf_id(buffer[start : start + length]))
            start += length


@cache
def _gear() -> array[int]:
    numbers = (hashlib.sha512(_GEAR_DOMAIN + bytes([byte])).digest()[:8] for byte in range(256))
    return array("Q", [int.from_bytes(number, "little") for number in numbers])
