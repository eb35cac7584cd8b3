"""Postcard (protocol.md "Postcard"): varints, zigzag, byte strings, and a strict reader. No types of ours.

Unsigned numbers are LEB128 varints, signed ones zigzag first, fixed arrays raw, byte strings length-prefixed
(postcard wire format 1.0). Stricter than the reference: a non-minimal varint, or one that does not fit its width, is
an error, so that every value has exactly one encoding.
"""

from __future__ import annotations

from pypatcher.errors import CodecError

__all__ = ["Reader", "encode_bytes", "encode_signed", "encode_unsigned"]


def encode_unsigned(value: int, bits: int = 64) -> bytes:
    """``value`` as a varint of an unsigned type of ``bits`` width.

    Raises:
        CodecError: it does not fit.
    """
    if not 0 <= value < 1 << bits:
        raise CodecError(f"{value} does not fit an unsigned number of {bits} bits")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def encode_signed(value: int) -> bytes:
    """``value`` as the zigzag varint of an i32.

    Raises:
        CodecError: it does not fit.
    """
    if not -(1 << 31) <= value < 1 << 31:
        raise CodecError(f"{value} does not fit a signed number of 32 bits")
    return encode_unsigned(value << 1 if value >= 0 else (-value << 1) - 1, 32)


def encode_bytes(data: bytes) -> bytes:
    """A byte string: its length, then itself."""
    return encode_unsigned(len(data)) + data


class Reader:
    """Reads values one after another from ``data``; every method raises CodecError instead of reading past the end."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def offset(self) -> int:
        """Bytes that were read."""
        return self._offset

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._offset == len(self._data)

    def unsigned(self, bits: int = 64) -> int:
        """The next varint of an unsigned type of ``bits`` width.

        Raises:
            CodecError: it is cut off, wider than ``bits`` or not minimal.
        """
        value = shift = 0
        while True:
            if self._offset >= len(self._data):
                raise CodecError("data ends within a number")
            byte = self._data[self._offset]
            self._offset += 1
            value |= (byte & 0x7F) << shift
            if value >> bits:
                raise CodecError(f"a number is wider than {bits} bits")
            if byte < 0x80:
                if byte == 0 and shift:
                    raise CodecError("a number is written longer than needed")
                return value
            shift += 7
            if shift >= bits:
                raise CodecError(f"a number is wider than {bits} bits")

    def signed(self) -> int:
        """The next zigzag varint of an i32.

        Raises:
            CodecError: as ``unsigned``.
        """
        value = self.unsigned(32)
        return value >> 1 if not value & 1 else -(value >> 1) - 1

    def raw(self, size: int) -> bytes:
        """The next ``size`` bytes.

        Raises:
            CodecError: fewer are left.
        """
        if size > len(self._data) - self._offset:
            raise CodecError(f"data ends {size - (len(self._data) - self._offset)} bytes early")
        start = self._offset
        self._offset += size
        return self._data[start : self._offset]

    def byte_string(self, limit: int) -> bytes:
        """The next byte string, of at most ``limit`` bytes.

        Raises:
            CodecError: it is longer, or cut off.
        """
        size = self.unsigned()
        if size > limit:
            raise CodecError(f"a byte string of {size} bytes where at most {limit} may be")
        return self.raw(size)

    def rest(self) -> bytes:
        """Everything that was not read yet; the reader is then at its end."""
        return self.raw(len(self._data) - self._offset)
