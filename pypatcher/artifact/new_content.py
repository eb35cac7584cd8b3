"""The opened content of a new file, whose tree is known: what of it is here, and chunks of the file made out of it.

protocol.md "Opened streams". Nothing is believed: which bytes a chunk of the file has is decided by the plain tree, and
whoever calls checks each by it. Not here: the content of a file that is here (``opened``), and who is asked for what.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate

from pypatcher.artifact.chunks import ID_SIZE, Chunk
from pypatcher.artifact.old_chunks import NOWHERE, OldChunks
from pypatcher.artifact.opened import Content, Element, Streams, deflate_stream

__all__ = ["FETCHED_LIMIT", "NewContent", "is_worth_opening"]

FETCHED_LIMIT = 1 << 20
"""Bytes of opened content that are fetched at most, and are in memory meanwhile."""
_LEAST, _MOST = 1 << 16, 8 << 20
"""Bytes of the file that are missing: fewer are fetched as soon, more come from many peers."""

_WORTH = 3, 4
"""What is fetched must be less than that part of what it spares."""
_SMALL_GAP = 1024
"""Bytes between streams that may be fetched with what is beside them."""


def is_worth_opening(missing: int) -> bool:
    """Whether there may be something to gain, where so many bytes of a file are missing."""
    return _LEAST <= missing <= _MOST


class NewContent:
    """The opened content of a new file as far as its tree says, made of an old file's and of chunks that are fetched.

    Args:
        sizes, ids: of its chunks in order; 16 bytes each.
        old: the chunks of the old file's opened content.
        content: that content.

    Attributes:
        size: bytes of it.
        fetched: what came of it, by the chunks' numbers; each was checked by its id.
    """

    def __init__(self, sizes: array[int], ids: bytearray, old: OldChunks, content: Content) -> None:
        self._sizes, self._ids, self._content = sizes, ids, content
        self._starts = array("Q", accumulate(sizes, initial=0))
        self.size = self._starts.pop()
        self._where = array("q", (old.find(self.chunk(number).id) for number in range(len(sizes))))
        self.fetched: dict[int, bytes] = {}
        self._streams = Streams(0)
        self._alike: dict[int, bool] = {}
        self._last: tuple[int | None, bytes] = None, b""

    def chunk(self, number: int) -> Chunk:
        """One of its chunks."""
        return Chunk(
            self._starts[number], self._sizes[number], bytes(self._ids[number * ID_SIZE : (number + 1) * ID_SIZE])
        )

    def lacking(self, size: int, place: int) -> list[int]:
        """The numbers of the chunks that have some of these bytes, and are not here."""
        return [each for each in self._between(size, place) if not self._is_here(each)]

    def table(self, size: int) -> bytes:
        """The last ``size`` bytes, which are here."""
        return self._read(size, self.size - size)

    def follow(self, streams: Streams) -> None:
        """These are the new file's, as its table says."""
        self._streams = streams

    def choose(self, missing: Iterable[Chunk], most: int = FETCHED_LIMIT) -> tuple[list[Chunk], list[int]]:
        """Which chunks of the new file are worth to be made out of opened content, and which of it they need.

        Args:
            missing: chunks of the file that are not here, in order.
            most: bytes of the opened content that may be fetched.
        """
        missing, gains = list(missing), Counter[int]()
        for chunk in missing:
            for element in self._streams.elements(chunk.offset, chunk.offset + chunk.size):
                if element.stream is not None:
                    gains[element.stream] += _overlap(chunk, element)
        known: dict[int, list[int] | None] = {}
        chosen, needed = list[Chunk](), dict[int, None]()
        for chunk in missing:
            more = dict[int, None]()
            for element in self._streams.elements(chunk.offset, chunk.offset + chunk.size):
                number = element.stream
                if number is None:
                    lacking = self._lacking_if_worth(element, element.size)
                elif number in known:
                    lacking = known[number]
                else:
                    lacking = known[number] = self._lacking_if_worth(element, gains[number])
                if lacking is None:
                    break
                more |= dict.fromkeys(lacking)
            else:
                cost = sum(self._sizes[each] for each in more.keys() - needed.keys())
                if cost <= most:
                    most -= cost
                    needed |= more
                    chosen.append(chunk)
        return chosen, sorted(needed)

    def make(self, chosen: Iterable[Chunk]) -> Iterator[tuple[Chunk, bytes]]:
        """Those chunks of the new file, or other bytes where a stream was deflated otherwise: they are to be checked.

        Raises:
            ContentMismatchError: the old file is not what it was.
            OSError: reading it failed.
        """
        for chunk in chosen:
            data = bytearray()
            for element in self._streams.elements(chunk.offset, chunk.offset + chunk.size):
                start = max(0, chunk.offset - element.start)
                data += self._packed(element)[start : start + _overlap(chunk, element)]
            yield chunk, bytes(data)

    def _packed(self, element: Element) -> bytes:
        """As it is in the new file; what was made last is kept, for chunks that follow each other share it."""
        if element.stream is None:
            return self._read(element.opened, element.place)
        if element.stream != self._last[0]:
            self._last = None, b""
            same = self._unchanged(element)
            if same is not None:
                packed = self._content.packed(same)
            else:
                packed = deflate_stream(
                    self._pieces(element.opened, element.place), self._streams.levels[element.stream]
                )
            self._last = element.stream, packed
        return self._last[1]

    def _lacking_if_worth(self, element: Element, gain: int) -> list[int] | None:
        """The chunks that are to be fetched for it; None where so many bytes of the file are not worth it.

        What is fetched travels deflated, so about as short as it is in the stream.
        """
        lacking = self.lacking(element.opened, element.place)
        if element.stream is None:
            is_worth = not lacking or element.size <= _SMALL_GAP
            return lacking if is_worth else None
        if self._unchanged(element) is not None:
            return []
        cost = sum(self._sizes[each] for each in lacking) * element.size // element.opened
        part, whole = _WORTH
        return lacking if cost * whole <= gain * part and self._deflates_alike(element) else None

    def _unchanged(self, element: Element) -> int | None:
        """The old stream that holds the same and is as long, and so is the same."""
        numbers = self._between(element.opened, element.place)
        shift = self._where[numbers.start] - self._starts[numbers.start]
        if any(self._where[each] == NOWHERE or self._where[each] - self._starts[each] != shift for each in numbers):
            return None
        number = self._content.streams.at(element.place + shift)
        if number is None:
            return None
        other = self._content.streams.stream(number)
        return number if (other.size, other.opened) == (element.size, element.opened) else None

    def _deflates_alike(self, element: Element) -> bool:
        """Whether the old stream that gives most of it is what deflating its content makes of it here."""
        given, streams = Counter[int](), self._content.streams
        for each in self._between(element.opened, element.place):
            if (where := self._where[each]) != NOWHERE:
                for number, _, count in streams.parts(where, min(where + self._sizes[each], streams.body)):
                    if number is not None:
                        given[number] += count
        if not given or element.stream is None:
            return False
        ((donor, _),) = given.most_common(1)
        if streams.levels[donor] != self._streams.levels[element.stream]:
            return False
        if donor not in self._alike:
            self._alike[donor] = self._content.deflates_alike(donor)
        return self._alike[donor]

    def _between(self, size: int, place: int) -> range:
        return range(bisect_right(self._starts, place) - 1, bisect_left(self._starts, place + size))

    def _is_here(self, number: int) -> bool:
        return self._where[number] != NOWHERE or number in self.fetched

    def _read(self, size: int, place: int) -> bytes:
        return b"".join(self._pieces(size, place))

    def _pieces(self, size: int, place: int) -> Iterator[bytes]:
        """These bytes, chunk by chunk; they are here."""
        for number in self._between(size, place):
            start = max(0, place - self._starts[number])
            count = min(self._sizes[number], place + size - self._starts[number]) - start
            if (where := self._where[number]) != NOWHERE:
                yield self._content.read(count, where + start)
            else:
                yield self.fetched[number][start : start + count]


def _overlap(chunk: Chunk, element: Element) -> int:
    start, end = max(chunk.offset, element.start), min(chunk.offset + chunk.size, element.start + element.size)
    return max(0, end - start)
