"""A zipapp's container: the end record with its comment, and the members as Python's importer would find them.

PKWARE APPNOTE 4.3.7, 4.3.12 and 4.3.16, without zip64, encryption and multiple disks. Positions are worked out as
``zipimport`` does it (the directory lies right before the end record; what is before the archive, such as a ``#!``
line, shifts everything). Everything is hostile: sizes are bounded before anything is read, and members are only ever
unpacked as far as the first 64 bytes.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from pypatcher.errors import ArtifactError

__all__ = ["END_SIZE", "ZipEnd", "looks_like_zipapp", "member_heads", "read_end", "read_foreign_comment"]

END_SIZE = 22
"""Bytes of an end record without its comment."""

_END = struct.Struct("<4sHHHHIIH")
_ENTRY = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_STORED, _DEFLATED = 0, 8
_ENCRYPTED = 1
_DIRECTORY_LIMIT = 64 * 1024 * 1024
_COMMENT_LIMIT = 0xFFFF
_HEAD_READ = 4096


@dataclass(frozen=True, slots=True)
class ZipEnd:
    """An end record in its place.

    Attributes:
        offset: where the record begins; its comment begins 22 bytes later.
        comment_size: bytes of the comment, which ends the file.
        entries: number of members.
        directory: offset in the file of the central directory.
        directory_size: its bytes.
        shift: bytes before the archive, to add to every offset that it holds.
    """

    offset: int
    comment_size: int
    entries: int
    directory: int
    directory_size: int
    shift: int


def looks_like_zipapp(fd: int) -> bool:
    """Whether the file begins as a zipapp does: ``#!`` or a zip's local header.

    Raises:
        OSError: reading failed.
    """
    head = os.pread(fd, 4, 0)
    return head[:2] == b"#!" or head == b"PK\x03\x04"


def read_end(fd: int, comment_size: int) -> ZipEnd:
    """Read the end record of an archive whose comment has exactly ``comment_size`` bytes and ends the file.

    Raises:
        ArtifactError: there is no such record, or it describes no plain archive.
        OSError: reading failed.
    """
    offset = os.fstat(fd).st_size - comment_size - END_SIZE
    record = os.pread(fd, END_SIZE, offset) if offset >= 0 else b""
    if len(record) != END_SIZE or record[:4] != b"PK\x05\x06":
        raise ArtifactError(f"it does not end as a zip archive with a comment of {comment_size} bytes does")
    _, disk, directory_disk, entries_here, entries, size, start, comment = _END.unpack(record)
    if comment != comment_size:
        raise ArtifactError(f"its zip comment should have {comment_size} bytes, but the archive says {comment}")
    if disk or directory_disk or entries_here != entries or entries == 0xFFFF or 0xFFFFFFFF in (size, start):
        raise ArtifactError("it is a zip archive of several disks or of the zip64 kind, which Python cannot run")
    shift = offset - size - start
    if shift < 0 or size > _DIRECTORY_LIMIT or size < entries * _ENTRY.size:
        raise ArtifactError("its zip directory is damaged")
    return ZipEnd(offset, comment_size, entries, offset - size, size, shift)


def read_foreign_comment(fd: int) -> int | None:
    """Bytes of the comment that ends an archive, whatever it holds; None where no archive ends so. For people's tools.

    Raises:
        OSError: reading failed.
    """
    size = os.fstat(fd).st_size
    start = max(0, size - _COMMENT_LIMIT - END_SIZE)
    end = os.pread(fd, size - start, start)
    at = end.rfind(b"PK\x05\x06")
    while at >= 0:
        comment = len(end) - at - END_SIZE
        if comment > 0 and struct.unpack_from("<H", end, at + 20)[0] == comment:
            return comment
        at = end.rfind(b"PK\x05\x06", 0, at)
    return None


def member_heads(fd: int, end: ZipEnd, size: int) -> Iterator[tuple[str, bytes]]:
    """Every member's name and the first ``size`` bytes of its content (fewer if it is shorter).

    Raises:
        ArtifactError: the directory or a member cannot be read for certain: then nothing is known about the archive.
        OSError: reading failed.
    """
    directory = os.pread(fd, end.directory_size, end.directory)
    at = 0
    for _ in range(end.entries):
        if at + _ENTRY.size > len(directory):
            raise ArtifactError("its zip directory is truncated")
        fields = _ENTRY.unpack_from(directory, at)
        flags, method, stored_size, full_size = fields[3], fields[4], fields[8], fields[9]
        name_size, extra_size, comment_size, local = fields[10], fields[11], fields[12], fields[16]
        if fields[0] != b"PK\x01\x02":
            raise ArtifactError("its zip directory is damaged")
        name_at = at + _ENTRY.size
        at = name_at + name_size + extra_size + comment_size
        if at > len(directory):
            raise ArtifactError("its zip directory is truncated")
        name = directory[name_at : name_at + name_size].decode("utf-8" if flags & 0x800 else "cp437", "replace")
        if flags & _ENCRYPTED or method not in (_STORED, _DEFLATED):
            raise ArtifactError(f"its member {name!r} is packed in a way that Python cannot import")
        yield name, _member_head(fd, end, name, end.shift + local, (stored_size, min(full_size, size), method))
    if at != len(directory):
        raise ArtifactError("its zip directory has more entries than it says")


def _member_head(fd: int, end: ZipEnd, name: str, offset: int, packed: tuple[int, int, int]) -> bytes:
    """The first bytes of a member; ``packed``: how many it takes in the file, how many are wanted, its method."""
    stored_size, wanted, method = packed
    local = os.pread(fd, _LOCAL.size, offset)
    if offset + _LOCAL.size > end.directory or local[:4] != b"PK\x03\x04":
        raise ArtifactError(f"its member {name!r} has no local header where the directory says")
    *_, name_size, extra_size = _LOCAL.unpack(local)
    start = offset + _LOCAL.size + name_size + extra_size
    if start + stored_size > end.directory:
        raise ArtifactError(f"its member {name!r} is not inside the archive")
    data = os.pread(fd, min(stored_size, _HEAD_READ), start)
    if method == _DEFLATED:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, wanted) if wanted else b""
        except zlib.error:
            raise ArtifactError(f"its member {name!r} cannot be unpacked") from None
    if len(data) < wanted:
        raise ArtifactError(f"its member {name!r} is truncated")
    return data[:wanted]
