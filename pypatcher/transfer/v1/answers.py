"""The answers of the v1 exchange, as they come: bounded by what was asked, whoever sends them. No stream, no file.

protocol.md "The v1 exchange". An answer is a status and what follows from the request, to the end of its stream.
Nothing here says whether bytes are right: nodes are checked by their ids, chunks by their leaves.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Sequence

from pypatcher.artifact.deflate import deflate
from pypatcher.artifact.postcard import Reader, encode_bytes, encode_unsigned
from pypatcher.artifact.tree import NODE_LIMIT
from pypatcher.errors import CodecError

__all__ = ["ABSENT", "TREE_LIMIT", "Piece", "RangesAnswer", "decode_nodes", "encode_nodes", "encode_piece"]

TREE_LIMIT = 1 << 20
"""Bytes of an answer with nodes at most."""
ABSENT = b""
"""Where a node is asked for that is not there."""
_HEADER_LIMIT = 1 + 10


class Piece(enum.IntEnum):
    """How a range comes."""

    PLAIN = 0
    ZLIB = 1
    ABSENT = 2


def encode_nodes(nodes: Sequence[bytes]) -> bytes:
    """For each node that was asked for its length and bytes; ``ABSENT`` where it is not there."""
    return b"".join(encode_bytes(node) for node in nodes)


def decode_nodes(data: bytes, count: int) -> list[bytes]:
    """The nodes of an answer, in the order in which they were asked for.

    Raises:
        CodecError: they are not as many as were asked for, or one is longer than any node.
    """
    if len(data) > TREE_LIMIT:
        raise CodecError(f"an answer with nodes has {TREE_LIMIT} bytes at most")
    reader = Reader(data)
    nodes = [reader.byte_string(NODE_LIMIT) for _ in range(count)]
    if not reader.at_end:
        raise CodecError("an answer with more nodes than were asked for")
    return nodes


def encode_piece(data: bytes | None, *, zlib_welcome: bool) -> bytes:
    """``kind || length || bytes`` of one range; None where it is not here. Deflated where that pays."""
    if data is None:
        return encode_unsigned(Piece.ABSENT) + encode_bytes(b"")
    packed = deflate(data) if zlib_welcome else data
    if len(packed) < len(data):
        return encode_unsigned(Piece.ZLIB) + encode_bytes(packed)
    return encode_unsigned(Piece.PLAIN) + encode_bytes(data)


class RangesAnswer:
    """Takes ranges out of an answer as its bytes come.

    It holds one range of a deflated answer at most, and inflates it to what was asked and not a byte further; what
    comes as it is, it holds no longer than the call.

    Args:
        ranges: offset and bytes of each that was asked for, in order.
        zlib_welcome: whether deflated ones were asked for.
    """

    def __init__(self, ranges: Sequence[tuple[int, int]], *, zlib_welcome: bool) -> None:
        self._ranges = list(reversed(ranges))
        self._zlib_welcome = zlib_welcome
        self._header = bytearray()
        self._inflater: zlib._Decompress | None = None
        self._left = 0
        self._offset = 0
        self._missing = 0

    @property
    def is_complete(self) -> bool:
        """Whether every range has come, or was said not to be there."""
        return not self._ranges and not self._left

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Offsets and bytes that ``data`` brings, in order, in pieces of whatever length.

        Raises:
            CodecError: it is no answer to what was asked.
        """
        found: list[tuple[int, bytes]] = []
        at = 0
        while at < len(data):
            if self._left:
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                self._take(part, found)
                continue
            self._header.append(data[at])
            at += 1
            self._open()
        return found

    def _open(self) -> None:
        """Begin the next range, once its header is there."""
        if len(self._header) > _HEADER_LIMIT or not self._ranges:
            raise CodecError("an answer with more than was asked for")
        if len(self._header) < 2 or self._header[-1] >= 0x80:
            return
        reader = Reader(bytes(self._header))
        kind, length = reader.unsigned(), reader.unsigned()
        self._header.clear()
        offset, size = self._ranges.pop()
        fits = {
            Piece.PLAIN: length == size,
            Piece.ZLIB: self._zlib_welcome and 0 < length < size,
            Piece.ABSENT: length == 0,
        }
        if not fits.get(kind, False):  # type: ignore[call-overload]
            raise CodecError(f"a range of kind {kind} and {length} bytes where {size} were asked for")
        self._offset, self._left = offset, length
        self._missing = 0 if kind == Piece.ABSENT else size
        self._inflater = zlib.decompressobj() if kind == Piece.ZLIB else None

    def _take(self, part: bytes, found: list[tuple[int, bytes]]) -> None:
        if self._inflater is not None:
            try:
                part = self._inflater.decompress(part, self._missing + 1)
            except zlib.error:
                raise CodecError("a range that does not inflate") from None
            is_whole = len(part) == self._missing and not self._inflater.unused_data
            if len(part) > self._missing or self._inflater.eof is bool(self._left) or not (self._left or is_whole):
                raise CodecError("a range that inflates to another length than was asked for")
        if part:
            found.append((self._offset, part))
            self._offset += len(part)
            self._missing -= len(part)
