"""How a new file is made: which of its chunks are there, which lie in files that are here, and which are to be fetched.

Pure: a few numbers for each chunk, and no object. Whose bytes they are, and whether they are right, is seen elsewhere;
who is asked for which is chosen by ``picker``.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pypatcher.artifact.chunks import ID_SIZE
from pypatcher.artifact.deflate import PIECE
from pypatcher.artifact.old_chunks import NOWHERE, OldChunks
from pypatcher.transfer.v1.messages import PARTS

__all__ = ["Plan", "Run", "join_runs", "part_at", "part_rank", "parts_of"]

_THERE = -2
_COPY = 1 << 20


class Run(NamedTuple):
    """Chunks that follow each other.

    Attributes:
        first, last: their numbers, ``last`` not among them.
        offset, size: their bytes in the new file.
        place: where they lie, in the row of old files; only of what is copied.
    """

    first: int
    last: int
    offset: int
    size: int
    place: int = NOWHERE


def part_at(offset: int, file_size: int) -> int:
    """Which of the 256 equal parts of a file a byte lies in; part j ends before byte (j + 1) * size // 256."""
    return ((offset + 1) * PARTS - 1) // file_size


def parts_of(offset: int, size: int, file_size: int) -> range:
    """All parts in which these bytes lie."""
    return range(part_at(offset, file_size), part_at(offset + size - 1, file_size) + 1)


def part_rank(node_id: bytes, part: int) -> bytes:
    """Of those in a LAN that fetch the same, who has the lowest is to bring that part in."""
    return hashlib.blake2b(node_id + bytes([part]), digest_size=8).digest()


class Plan:
    """One file's.

    Args:
        sizes: of its chunks in order.
        ids: 16 bytes of each.
        old: what lies in files that are here.

    Attributes:
        missing: bytes that are still to be fetched.
        file_size: bytes of the file.
    """

    def __init__(self, sizes: array[int], ids: bytearray, old: OldChunks) -> None:
        self._sizes, self._ids = sizes, ids
        self._places = array("q", (old.find(self.chunk(number)[1]) for number in range(len(sizes))))
        self.missing = sum(size for size, place in zip(sizes, self._places, strict=True) if place == NOWHERE)
        self.file_size = sum(sizes)
        self._spans = bytearray(), bytearray()
        self._lacking = [0] * PARTS
        self._starts = array("Q")
        offset = 0
        for size in sizes:
            lies = parts_of(offset, size, self.file_size)
            for span, part in zip(self._spans, (lies.start, lies.stop - 1), strict=True):
                span.append(part)
            self._starts.append(offset)
            for part in lies:
                self._lacking[part] += 1
            offset += size

    def __len__(self) -> int:
        """How many chunks there are."""
        return len(self._sizes)

    def chunk(self, number: int) -> tuple[int, bytes]:
        """Size and id of a chunk."""
        return self._sizes[number], bytes(self._ids[number * ID_SIZE : (number + 1) * ID_SIZE])

    def parts(self, number: int) -> range:
        """In which parts a chunk lies."""
        first, last = self._spans
        return range(first[number], last[number] + 1)

    def chunks_in(self, part: int) -> Iterator[tuple[int, int, int]]:
        """Number, offset and size of every chunk that lies in a part, be it by a byte."""
        for number in self._between(part * self.file_size // PARTS, (part + 1) * self.file_size // PARTS):
            yield number, self._starts[number], self._sizes[number]

    def _between(self, start: int, end: int) -> range:
        """The chunks that have a byte there."""
        return range(bisect_right(self._starts, start) - 1, bisect_left(self._starts, end))

    def is_wanted(self, number: int) -> bool:
        """Whether that chunk is to be fetched."""
        return self._places[number] == NOWHERE

    def is_copied(self, number: int) -> bool:
        """Whether that chunk is to be copied."""
        return self._places[number] >= 0

    def has(self, offset: int, size: int) -> bool:
        """Whether all of these bytes are in the new file."""
        return all(self._places[number] == _THERE for number in self._between(offset, offset + size))

    def has_part(self, part: int) -> bool:
        """Whether all of a part is in the new file."""
        return not self._lacking[part]

    def bitmap(self) -> bytes:
        """A bit for each part of which all is in the new file, the first one the highest of the first byte."""
        bits = "".join("0" if lacking else "1" for lacking in self._lacking)
        return int(bits, 2).to_bytes(PARTS // 8, "big")

    def is_there(self, first: int, last: int) -> None:
        """These chunks were verified and are in the new file."""
        for number in range(first, last):
            place = self._places[number]
            if place == NOWHERE:
                self.missing -= self._sizes[number]
            if place != _THERE:
                self._places[number] = _THERE
                for part in self.parts(number):
                    self._lacking[part] -= 1

    def is_missing(self, first: int, last: int) -> None:
        """These chunks do not lie where they were said to be."""
        for number in range(first, last):
            if self._places[number] >= 0:
                self.missing += self._sizes[number]
                self._places[number] = NOWHERE

    def copies(self, parts: Iterable[int] = range(PARTS)) -> Iterator[Run]:
        """What lies in old files of some parts, in order, up to 1 MiB that follow each other there as well."""
        run: Run | None = None
        behind = 0
        for number, offset, length in (chunk for part in parts for chunk in self.chunks_in(part)):
            where = self._places[number]
            if number < behind or where < 0:
                continue
            behind = number + 1
            if run is not None and run.last == number and where == run.place + run.size and run.size + length <= _COPY:
                run = Run(run.first, behind, run.offset, run.size + length, run.place)
                continue
            if run is not None:
                yield run
            run = Run(number, behind, offset, length, where)
        if run is not None:
            yield run


def join_runs(chunks: Iterable[tuple[int, int, int]]) -> Iterator[Run]:
    """Numbers, offsets and sizes of chunks: those that follow each other as one, none longer than what is deflated."""
    run: Run | None = None
    for number, offset, size in chunks:
        if run is not None and run.last == number and run.size + size <= PIECE:
            run = Run(run.first, number + 1, run.offset, run.size + size)
            continue
        if run is not None:
            yield run
        run = Run(number, number + 1, offset, size)
    if run is not None:
        yield run
