"""The opened content of a file: its zlib streams inflated in their places, and behind it a table of where they are.

protocol.md "Opened streams". It follows from the file by inflating alone, so everybody who has the file computes the
same one, and its tree. What lives here: finding the streams, the table, and reading the content of a file that is here.
How a new file is made out of it is ``new_content``'s.
"""

from __future__ import annotations

import os
import re
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple, Self

from pypatcher.artifact.chunks import OPENED, PARAMETERS, Parameters, cut_filled, parameters_for
from pypatcher.artifact.postcard import Reader, encode_unsigned
from pypatcher.artifact.tree import Tree, tree_of
from pypatcher.errors import ArtifactError, CodecError, ContentMismatchError
from pypatcher.file_parts import read_part

__all__ = [
    "CONTENT_LIMIT",
    "STREAM_LIMIT",
    "TABLE_LIMIT",
    "Content",
    "Element",
    "Read",
    "Streams",
    "deflate_stream",
    "open_file",
    "stated_opened_root",
]

STREAM_LIMIT = 4 << 20
"""Bytes that a stream holds at most: as many are in memory at once."""
CONTENT_LIMIT = 1 << 30
"""Bytes of opened content at most; its chunks are numbers in memory."""
_STREAM_LEAST = 1024
_STREAMS_LIMIT = 1 << 16
_TIMES = 8
"""How often as large as its file opened content is at most; what was inflated in vain counts as well."""
_FREE_WORK = 1 << 24
_HEADER = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
"""RFC 1950: deflate with a window of 32 KiB, no dictionary, and a check that fits, for each of the four levels."""
_LEVELS = (1, 5, 6, 9)
"""How a stream was deflated, by the two bits of its header that hint at it."""
_BLOCK, _PIECE = 1 << 20, 1 << 14
_FOOTER = 4
TABLE_LIMIT = 5 + _STREAMS_LIMIT * 14 + _FOOTER
"""Bytes of a table at most."""
_SAMPLES = 8

Read = Callable[[int, int], bytes]
"""All of so many bytes from an offset on."""


class Element(NamedTuple):
    """A stream, or bytes between two streams.

    Attributes:
        stream: its number; ``None`` between streams.
        start, size: where it lies in the file.
        place, opened: where it lies in the opened content.
    """

    stream: int | None
    start: int
    size: int
    place: int
    opened: int


class Streams:
    """Where the streams of a file are, in it and in its opened content; a few numbers for each.

    Attributes:
        file_size: bytes of the file.
        body: bytes of the opened content before the table.
        levels: two bits of each stream's header.
    """

    def __init__(self, file_size: int) -> None:
        self.file_size = self.body = file_size
        self._starts, self._sizes = array("Q"), array("I")
        self._places, self._opened = array("Q"), array("I")
        self.levels = bytearray()
        self._table: bytes | None = None

    def __len__(self) -> int:
        """How many there are."""
        return len(self._starts)

    def add(self, start: int, size: int, opened: int, level: int) -> None:
        """The next one; offset and bytes in the file, bytes that it holds, two bits of its header.

        Raises:
            CodecError: no file has it there.
        """
        behind = self._starts[-1] + self._sizes[-1] if len(self) else 0
        if (
            not (behind <= start < start + size <= self.file_size and _STREAM_LEAST <= opened <= STREAM_LIMIT)
            or len(self) == _STREAMS_LIMIT
            or self.body + opened - size > min(CONTENT_LIMIT, _TIMES * self.file_size)
        ):
            raise CodecError("streams that are too many, hold too much or lie where no file has them")
        self._table = None
        self._places.append(start + self.body - self.file_size)
        self._starts.append(start)
        self._sizes.append(size)
        self._opened.append(opened)
        self.levels.append(level)
        self.body += opened - size

    def encode(self) -> bytes:
        """The table: ``count || (gap || bytes || bytes opened * 4 + level)... || u32``: length of the rest."""
        if self._table is not None:
            return self._table
        table, behind = bytearray(encode_unsigned(len(self))), 0
        for start, size, opened, level in zip(self._starts, self._sizes, self._opened, self.levels, strict=True):
            for number in (start - behind, size, opened << 2 | level):
                table += encode_unsigned(number)
            behind = start + size
        # It is part of what each request may ask for.
        self._table = bytes(table) + len(table).to_bytes(_FOOTER, "little")
        return self._table

    @staticmethod
    def table_size(footer: bytes) -> int:
        """Bytes of a table, its last four included, that ends with these."""
        return int.from_bytes(footer[-_FOOTER:], "little") + _FOOTER

    @classmethod
    def decode(cls, table: bytes, file_size: int, content_size: int) -> Self:
        """Read a table that fills ``table``, of a file and an opened content of these sizes.

        Raises:
            CodecError: it is none of such a file.
        """
        reader, found, behind = Reader(table[:-_FOOTER]), cls(file_size), 0
        if cls.table_size(table) != len(table):
            raise CodecError("a table of streams that does not say how long it is")
        for _ in range(reader.unsigned(17)):
            gap, size, opened = reader.unsigned(), reader.unsigned(), reader.unsigned(32)
            found.add(behind + gap, size, opened >> 2, opened & 3)
            behind += gap + size
        if reader.rest() or found.body + len(table) != content_size:
            raise CodecError("a table of streams of another file")
        return found

    def stream(self, number: int) -> Element:
        """One of them."""
        return Element(number, self._starts[number], self._sizes[number], self._places[number], self._opened[number])

    def elements(self, start: int, end: int) -> Iterator[Element]:
        """What these bytes of the file lie in: streams whole, and of what is between them what is asked for."""
        number = bisect_right(self._starts, start) - 1
        while start < end:
            behind = shift = 0
            if number >= 0:
                element = self.stream(number)
                behind, shift = element.start + element.size, element.place + element.opened
                if start < behind:
                    yield element
                    start = behind
            number += 1
            stop = min(end, self._starts[number] if number < len(self) else self.file_size)
            if start < stop:
                yield Element(None, start, stop - start, start - behind + shift, stop - start)
                start = stop
            elif number == len(self):
                return

    def parts(self, place: int, end: int) -> Iterator[tuple[int | None, int, int]]:
        """What these bytes of the opened content before the table lie in: a stream's number, and offset and bytes of
        what it holds; or None, and offset and bytes in the file."""
        number = bisect_right(self._places, place) - 1
        while place < end:
            behind = shift = 0
            if number >= 0:
                element = self.stream(number)
                behind, shift = element.place + element.opened, element.start + element.size
                if place < behind:
                    stop = min(end, behind)
                    yield number, place - element.place, stop - place
                    place = stop
            number += 1
            stop = min(end, self._places[number] if number < len(self) else self.body)
            if place < stop:
                yield None, place - behind + shift, stop - place
                place = stop
            elif number == len(self):
                return

    def at(self, place: int) -> int | None:
        """The number of the stream that begins there in the opened content."""
        number = bisect_right(self._places, place) - 1
        return number if number >= 0 and self._places[number] == place else None


class Content:
    """The opened content of a file that is here, read anywhere; the stream that was read last is kept.

    Args:
        read: reads the file; what it raises comes out.
    """

    def __init__(self, read: Read, streams: Streams) -> None:
        self.streams = streams
        self._read = read
        self._table = streams.encode()
        self._last: tuple[int, bytes] = -1, b""
        self.size = streams.body + len(self._table)

    def read(self, size: int, place: int) -> bytes:
        """All of so many bytes from there.

        Raises:
            ContentMismatchError: the file is not what it was.
        """
        body, found = self.streams.body, bytearray()
        for number, offset, count in self.streams.parts(place, min(place + size, body)):
            found += self._read(count, offset) if number is None else self._open(number)[offset : offset + count]
        if place + size > body:
            found += self._table[max(0, place - body) : place + size - body]
        return bytes(found)

    def packed(self, number: int) -> bytes:
        """A stream as it is in the file."""
        element = self.streams.stream(number)
        return self._read(element.size, element.start)

    def deflates_alike(self, number: int) -> bool:
        """Whether what the stream holds, deflated here, is the stream."""
        return deflate_stream([self._open(number)], self.streams.levels[number]) == self.packed(number)

    def _open(self, number: int) -> bytes:
        if self._last[0] != number:
            self._last = -1, b""
            size = self.streams.stream(number).opened
            try:
                # Somebody may have put anything there since it was found.
                opened = zlib.decompressobj().decompress(self.packed(number), size + 1)
            except zlib.error:
                opened = b""
            if len(opened) != size:
                raise ContentMismatchError("a stream does not hold what it held: the file was changed")
            self._last = number, opened
        return self._last[1]


def open_file(fd: int, file_size: int, parameters: Parameters) -> tuple[Streams, Tree]:
    """The streams of an open file, and the tree of its opened content; memory as for a tree, and one stream.

    Raises:
        ContentMismatchError: it opens to more than it may, or became shorter meanwhile.
        OSError: reading failed.
    """
    streams, read = Streams(file_size), partial(read_part, fd)
    rest = memoryview(b"")
    pieces = (memoryview(piece) for piece in _open_all(read, streams) if piece)

    def fill(room: memoryview) -> int:
        nonlocal rest
        done = 0
        while done < len(room) and (rest or (rest := next(pieces, rest))):
            count = min(len(rest), len(room) - done)
            room[done : done + count] = rest[:count]
            done, rest = done + count, rest[count:]
        return done

    try:
        return streams, tree_of(cut_filled(fill, parameters), parameters)
    except CodecError:
        raise ContentMismatchError("the file's zlib streams are too many, or hold too much") from None


def stated_opened_root(fd: int) -> bytes | None:
    """The root of the opened content's tree as a manifest states it; None where there is nothing to gain by it.

    Raises:
        OSError: reading failed.
    """
    file_size = os.fstat(fd).st_size
    try:
        for number in (1, 2):
            streams, tree = open_file(fd, file_size, PARAMETERS[OPENED + number])
            if tree.parameters == parameters_for(tree.file_size, opened=True):
                break
        content = Content(partial(read_part, fd), streams)
        samples = range(0, len(streams), max(1, len(streams) // _SAMPLES))
        if not samples or 2 * sum(map(content.deflates_alike, samples)) < len(samples):
            return None
    except ArtifactError:
        return None
    return bytes([tree.parameters.number]) + tree.root


def _open_all(read: Read, streams: Streams) -> Iterator[bytes]:
    """The opened content in order, and the streams as they are found.

    Raises:
        CodecError: they are too many, or hold too much.
    """
    file_size, done, work = streams.file_size, 0, 0
    if file_size > CONTENT_LIMIT:
        raise CodecError("a file that is not opened")
    while done < file_size:
        base, block = done, read(min(_BLOCK, file_size - done), done)
        at = 0
        while (found := _HEADER.search(block, at)) is not None:
            start = base + found.start()
            opened, size = _inflate(read, start, file_size)
            at = found.start() + 1
            if not opened:
                # Streams within what looks like one, again and again, must not cost more than a file may.
                work += size
                if work > _TIMES * file_size + _FREE_WORK:
                    raise CodecError("too much that only looks like streams")
                continue
            streams.add(start, size, sum(map(len, opened)), block[found.start() + 1] >> 6)
            yield block[done - base : found.start()]
            yield from opened
            done, at = start + size, found.start() + size
        # The last byte may be the first one of a header.
        end = base + len(block) - (base + len(block) < file_size)
        if done < end:
            yield block[done - base : end - base]
            done = end
    yield streams.encode()


def _inflate(read: Read, start: int, file_size: int) -> tuple[list[bytes], int]:
    """What the stream that begins there holds, in pieces, and its bytes; or nothing, and the bytes looked at."""
    inflater, opened, count, at, data = zlib.decompressobj(), list[bytes](), 0, start, b""
    try:
        while not inflater.eof and count <= STREAM_LIMIT and (data or at < file_size):
            if not data:
                data = read(min(_PIECE, file_size - at), at)
                at += len(data)
            # No large block at once: the allocator would keep it.
            opened.append(inflater.decompress(data, min(_BLOCK >> 3, STREAM_LIMIT + 1 - count)))
            count, data = count + len(opened[-1]), inflater.unconsumed_tail
    except zlib.error:
        return [], at - start + count
    if not inflater.eof or not _STREAM_LEAST <= count <= STREAM_LIMIT:
        return [], at - start + count
    return opened, at - start - len(inflater.unused_data)


def deflate_stream(pieces: Iterable[bytes], level: int) -> bytes:
    deflater = zlib.compressobj(_LEVELS[level])
    return b"".join([deflater.compress(piece) for piece in pieces] + [deflater.flush()])
