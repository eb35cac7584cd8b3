"""The messages of the v1 exchange: what a node says of itself, and what one asks of another. No stream, no clock.

protocol.md "The v1 exchange". Every payload comes from a peer: it is bounded before it is taken apart, and what is not
known is skipped. What is answered is in ``answers``.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from pypatcher.artifact import PatchInfo
from pypatcher.artifact.chunks import ID_SIZE
from pypatcher.artifact.manifest import POSITIONS
from pypatcher.artifact.postcard import Reader, encode_bytes, encode_unsigned
from pypatcher.bencode import Value, decode, encode
from pypatcher.errors import CodecError

__all__ = [
    "HELLO_LIMIT",
    "MESSAGE_LIMIT",
    "NODES_LIMIT",
    "Flags",
    "Hello",
    "Kind",
    "MessageReader",
    "RangesRequest",
    "TreeRequest",
    "encode_message",
]

MESSAGE_LIMIT = 1 << 16
"""Bytes of a payload at most."""
HELLO_LIMIT = 1 << 12
"""Bytes of a HELLO at most, three times what anybody says: to take one apart costs far more than to send it."""
NODES_LIMIT = 256
"""Ids in a request for nodes at most."""
RELEASE_ID_SIZE = 32
PARTS = 256
"""Equal parts of a file whose presence a bitmap tells."""
NO_PARTS = bytes(PARTS // 8)
_TYPE_LIMIT = 1 << 16
_HEADER_LIMIT = 2 * 10
_HELD_LIMIT = 4
_SEQ_LIMIT = 1 << 53
_DIGEST_SIZE = 8
_SOFTWARE_LIMIT = 80
_RANGES_LIMIT = 1024
_BYTES_LIMIT = 16 << 20
_FILE_LIMIT = 1 << 40


class Kind(enum.IntEnum):
    """Types of messages: below 16 on the control stream, above on a stream of its own."""

    HELLO = 1
    MANIFEST = 16
    TREE = 17
    RANGES = 18


class Flags(enum.IntFlag):
    """What a request for ranges allows."""

    ZLIB = 1
    OPENED = 2


@dataclass(frozen=True, slots=True)
class Hello:
    """What a node says of itself, again whenever it changes.

    Attributes:
        held: releases that it has whole, at most 4.
        given: for each of them a bitmap of 256 equal parts that it gave, or gives, to others; or nothing at all.
        seq: of the newest manifest that it knows; None: it knows none.
        digest: the first 8 bytes of SHA-512 of that manifest's value.
        mask: a bit for each position whose signature it has.
        fetching: a release of which it has parts.
        parts: a bitmap of 256 equal parts of that file, 32 bytes.
        gives: whether it gives anything just now.
        software: name and version, for people.
    """

    held: tuple[PatchInfo, ...] = ()
    given: tuple[bytes, ...] = ()
    seq: int | None = None
    digest: bytes = b""
    mask: int = 0
    fetching: PatchInfo | None = None
    parts: bytes = NO_PARTS
    gives: bool = True
    software: str = ""

    def encode(self) -> bytes:
        """The payload."""
        keys: dict[bytes, Value] = {b"i": [info.to_postcard() for info in self.held]}
        if self.seq is not None:
            keys |= {b"m": self.seq, b"h": self.digest, b"g": self.mask}
        if self.fetching is not None:
            keys |= {b"p": self.fetching.to_postcard(), b"b": self.parts}
        if any(each != NO_PARTS for each in self.given):
            keys[b"o"] = b"".join(self.given)
        if not self.gives:
            keys[b"s"] = 0
        if self.software:
            keys[b"a"] = self.software.encode()
        return encode(keys)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a payload; unknown keys are skipped.

        Raises:
            CodecError: it is none, or a known key has another form.
        """
        if len(payload) > HELLO_LIMIT:
            raise CodecError(f"a HELLO of more than {HELLO_LIMIT} bytes")
        keys = decode(payload)
        if not isinstance(keys, dict):
            raise CodecError("a HELLO that is no dictionary")
        held = keys.get(b"i", [])
        if not isinstance(held, list) or len(held) > _HELD_LIMIT:
            raise CodecError(f"a HELLO that names more than {_HELD_LIMIT} releases")
        fetching = keys.get(b"p")
        return cls(
            held=tuple(_release(each) for each in held),
            given=_bitmaps(keys[b"o"], len(held)) if b"o" in keys else (),
            seq=_number(keys[b"m"], _SEQ_LIMIT) if b"m" in keys else None,
            digest=_bytes(keys.get(b"h", bytes(_DIGEST_SIZE)), _DIGEST_SIZE) if b"m" in keys else b"",
            mask=_number(keys.get(b"g", 0), 1 << POSITIONS) if b"m" in keys else 0,
            fetching=None if fetching is None else _release(fetching),
            parts=_bytes(keys.get(b"b", NO_PARTS), PARTS // 8),
            gives=keys.get(b"s") != 0,
            software=_software(keys.get(b"a", b"")),
        )


@dataclass(frozen=True, slots=True)
class TreeRequest:
    """Asks for nodes of a release's tree; without ids for its root.

    Attributes:
        release: its id, 32 bytes.
        parameters: their number, of one byte.
        nodes: ids, at most 256.
    """

    release: bytes
    parameters: int
    nodes: tuple[bytes, ...] = ()

    def encode(self) -> bytes:
        """The payload."""
        return self.release + encode_unsigned(self.parameters, 8) + b"".join(self.nodes)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a payload.

        Raises:
            CodecError: it is none, or asks for more than 256 nodes.
        """
        reader = Reader(payload)
        release, parameters = reader.raw(RELEASE_ID_SIZE), reader.unsigned(8)
        ids = reader.rest()
        if len(ids) % ID_SIZE or len(ids) > NODES_LIMIT * ID_SIZE:
            raise CodecError(f"a request for nodes that are not 0 to {NODES_LIMIT} whole ids")
        return cls(release, parameters, tuple(ids[at : at + ID_SIZE] for at in range(0, len(ids), ID_SIZE)))


@dataclass(frozen=True, slots=True)
class RangesRequest:
    """Asks for bytes of a release.

    Attributes:
        release: its id, 32 bytes.
        flags: how the bytes may come.
        ranges: offset and bytes of each, ascending, without overlap; at most 1024, and 16 MiB together.
    """

    release: bytes
    flags: Flags
    ranges: tuple[tuple[int, int], ...]

    def encode(self) -> bytes:
        """The payload."""
        numbers = (encode_unsigned(number) for each in self.ranges for number in each)
        return self.release + encode_unsigned(self.flags) + b"".join(numbers)

    @classmethod
    def decode(cls, payload: bytes) -> Self:
        """Read a payload; unknown flags are skipped.

        Raises:
            CodecError: it is none, or asks for too much, for nothing, or for the same byte twice.
        """
        reader = Reader(payload)
        release, flags = reader.raw(RELEASE_ID_SIZE), reader.unsigned()
        ranges: list[tuple[int, int]] = []
        behind = wanted = 0
        while not reader.at_end:
            offset, size = reader.unsigned(), reader.unsigned()
            wanted += size
            if offset < behind or not size or wanted > _BYTES_LIMIT or len(ranges) == _RANGES_LIMIT:
                raise CodecError("ranges that are empty, out of order, too many or too long")
            behind = offset + size
            ranges.append((offset, size))
        if not ranges or behind > _FILE_LIMIT:
            raise CodecError("a request for no range, or for one behind every file's end")
        return cls(release, Flags(flags & (Flags.ZLIB | Flags.OPENED)), tuple(ranges))


def encode_message(kind: int, payload: bytes = b"") -> bytes:
    """``type || length || payload``, numbers as LEB128."""
    return encode_unsigned(kind) + encode_bytes(payload)


class MessageReader:
    """Takes messages out of a stream as its bytes come; holds one message at most.

    A message of an unknown type is returned like any other: who reads it skips it.
    """

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def is_between(self) -> bool:
        """Whether the stream may end here."""
        return not self._held

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Type and payload of every message that is complete now.

        Raises:
            CodecError: a message is longer than 64 KiB, or its header is none.
        """
        self._held += data
        messages = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> tuple[int, bytes] | None:
        header = Reader(bytes(self._held[:_HEADER_LIMIT]))
        try:
            kind, size = header.unsigned(), header.unsigned()
        except CodecError:
            if len(self._held) >= _HEADER_LIMIT or not _is_cut_off(self._held):
                raise
            return None
        if kind >= _TYPE_LIMIT or size > MESSAGE_LIMIT:
            raise CodecError(f"a message of {size} bytes, more than the {MESSAGE_LIMIT} that one has")
        start = header.offset
        if len(self._held) < start + size:
            return None
        payload = bytes(self._held[start : start + size])
        del self._held[: start + size]
        return kind, payload


def check_ranges(ranges: Sequence[tuple[int, int]], file_size: int) -> None:
    """Whether all ranges lie in a file of so many bytes.

    Raises:
        CodecError: one ends behind it.
    """
    if ranges and sum(ranges[-1]) > file_size:
        raise CodecError(f"a range that ends behind the file's {file_size} bytes")


def _is_cut_off(data: bytearray) -> bool:
    """Whether a header may be complete with more bytes: it is at most one number and the start of another."""
    return sum(byte < 0x80 for byte in data) < 2


def _release(found: Value) -> PatchInfo:
    if not isinstance(found, bytes):
        raise CodecError("a release that is no byte string")
    info, rest = PatchInfo.from_postcard(found)
    if rest:
        raise CodecError("a release with bytes behind it")
    return info


def _number(found: Value, limit: int) -> int:
    if not isinstance(found, int) or not 0 <= found < limit:
        raise CodecError("a number that is out of range")
    return found


def _bytes(found: Value, size: int) -> bytes:
    if not isinstance(found, bytes) or len(found) != size:
        raise CodecError(f"a byte string that has not {size} bytes")
    return found


def _bitmaps(found: Value, count: int) -> tuple[bytes, ...]:
    joined, size = _bytes(found, count * len(NO_PARTS)), len(NO_PARTS)
    return tuple(joined[at : at + size] for at in range(0, len(joined), size))


def _software(found: Value) -> str:
    if not isinstance(found, bytes):
        raise CodecError("a software's name that is no byte string")
    text = found[:_SOFTWARE_LIMIT].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)
