"""Bencode (BEP 3), strict and bounded: one value has one encoding, and hostile bytes cost no more than their length.

Pure functions over bytes. Refused: numbers outside i64 or not in their shortest form, dictionaries with unsorted,
repeated or non-string keys, values that are nested too deep, trailing bytes. Not here: what the values mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from pypatcher.errors import CodecError

__all__ = ["MAX_DEPTH", "Value", "decode", "encode"]

Value: TypeAlias = int | bytes | list["Value"] | dict[bytes, "Value"]
"""What bencode can carry, as it is decoded."""

_Encodable: TypeAlias = int | bytes | Sequence["_Encodable"] | Mapping[bytes, "_Encodable"]

MAX_DEPTH = 8

_INT_MIN, _INT_MAX = -(1 << 63), (1 << 63) - 1
_INT_DIGITS = 20
_LENGTH_DIGITS = 9
_DICT, _LIST, _INT, _END = b"dlie"


def encode(value: _Encodable) -> bytes:
    """The one encoding of ``value``.

    Raises:
        CodecError: a number does not fit an i64, or a type has no encoding.
    """
    parts: list[bytes] = []
    _write(value, parts)
    return b"".join(parts)


def _write(value: _Encodable, parts: list[bytes]) -> None:
    match value:
        case bytes():
            parts.append(b"%d:%b" % (len(value), value))
        case int() if not isinstance(value, bool) and _INT_MIN <= value <= _INT_MAX:
            parts.append(b"i%de" % value)
        case dict() | Mapping():  # most are dict, which is told from others sooner
            parts.append(b"d")
            for key in sorted(value):
                _write(key, parts)
                _write(value[key], parts)
            parts.append(b"e")
        case list() | tuple():
            parts.append(b"l")
            for item in value:
                _write(item, parts)
            parts.append(b"e")
        case _:
            raise CodecError(f"bencode cannot carry this {type(value).__name__}")


def decode(data: bytes) -> Value:
    """Read exactly one value that fills ``data``.

    Raises:
        CodecError: the bytes are not strict bencode, nested deeper than 8 levels, or followed by more.
    """
    try:
        value, end = _read(data, 0, MAX_DEPTH)
    except IndexError:
        raise CodecError("bencode ends in the middle of a value") from None
    if end != len(data):
        raise CodecError(f"bencode is followed by {len(data) - end} more bytes")
    return value


def _read(data: bytes, at: int, depth: int) -> tuple[Value, int]:
    kind = data[at]
    if 48 <= kind <= 57:
        return _read_string(data, at)
    if kind == _INT:
        return _read_int(data, at)
    if kind not in (_DICT, _LIST):
        raise CodecError(f"no bencoded value starts with byte {kind}")
    if depth == 0:
        raise CodecError(f"bencode is nested deeper than {MAX_DEPTH} levels")
    if kind == _LIST:
        return _read_list(data, at + 1, depth - 1)
    return _read_dict(data, at + 1, depth - 1)


def _read_string(data: bytes, at: int) -> tuple[bytes, int]:
    colon = data.find(b":", at, at + _LENGTH_DIGITS + 1)
    digits = data[at:colon]
    if colon < 0 or not digits.isdigit() or (digits[0] == 48 and len(digits) > 1):
        raise CodecError("a bencoded string has no proper length")
    end = colon + 1 + int(digits)
    if end > len(data):
        raise CodecError("a bencoded string is longer than its message")
    return data[colon + 1 : end], end


def _read_int(data: bytes, at: int) -> tuple[int, int]:
    end = data.find(b"e", at, at + _INT_DIGITS + 2)
    text = data[at + 1 : end]
    digits = text.removeprefix(b"-")
    if end < 0 or not digits.isdigit() or (digits[0] == 48 and text != b"0"):
        raise CodecError("a bencoded number is not in its shortest form, or too long")
    number = int(text)
    if not _INT_MIN <= number <= _INT_MAX:
        raise CodecError("a bencoded number does not fit 64 bits")
    return number, end + 1


def _read_list(data: bytes, at: int, depth: int) -> tuple[list[Value], int]:
    items: list[Value] = []
    while data[at] != _END:
        item, at = _read(data, at, depth)
        items.append(item)
    return items, at + 1


def _read_dict(data: bytes, at: int, depth: int) -> tuple[dict[bytes, Value], int]:
    items: dict[bytes, Value] = {}
    last: bytes | None = None
    while data[at] != _END:
        key, at = _read_string(data, at)
        if last is not None and key <= last:
            raise CodecError("a bencoded dictionary's keys are not sorted, or repeated")
        items[key], at = _read(data, at, depth)
        last = key
    return items, at + 1
