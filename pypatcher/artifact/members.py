"""The parts of a finished program that people know by name: what a bundler packed, or the sections of an ELF file.

For people, never for a decision: whatever is damaged has no parts. A PyInstaller onefile's own archive of modules is
opened as well, so that a module is named and not the archive. Only reads; marshal is read by hand, for Python's own
reader trusts what it reads.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pypatcher.artifact.sections import parse_elf
from pypatcher.errors import ArtifactError, CodecError

__all__ = ["Member", "file_members", "member_content"]

_COOKIE = struct.Struct("!8sIIII64s")
_COOKIE_WORD = b"MEI\014\013\012\013\016"
_COOKIE_SEARCH = 64 << 10
_ENTRY = struct.Struct("!IIIIBc")
_TOC_LIMIT = 16 << 20
_MODULES_WORD = b"PYZ\0"
_MODULES_HEADER = struct.Struct("!4s4sI")
_CODE = (b"s", b"m", b"M")
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_CONTENT_LIMIT = 256 << 20
_DEEPEST = 4


@dataclass(frozen=True, slots=True)
class Member:
    """A part of a file that people know by name.

    Attributes:
        offset, size: where it lies, as it is packed.
        data: offset of its content; behind a header of its own, if it has one.
        window: how its content is packed: bits of the window as zlib takes them, or 0 for not at all.
        is_code: compiled Python.
    """

    name: str
    offset: int
    size: int
    data: int
    window: int = 0
    is_code: bool = False


def file_members(fd: int) -> list[Member]:
    """The members of a onefile or zipapp, else the sections of an ELF file; none where nothing is known.

    Raises:
        ArtifactError: it is a damaged zip file.
        OSError: reading failed.
    """
    if bundled := list(_bundled(fd)):
        return bundled
    with os.fdopen(os.dup(fd), "rb") as file:
        if zipfile.is_zipfile(file):
            try:
                with zipfile.ZipFile(file) as archive:
                    return [_zipped(fd, each) for each in archive.infolist()]
            except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
                raise ArtifactError(f"it is a damaged zip file: {error}") from None
    try:
        sections = parse_elf(fd).sections
    except ArtifactError:
        return []
    return [Member(each.name, each.offset, each.size, each.offset) for each in sections if each.is_in_file]


def member_content(fd: int, member: Member) -> bytes:
    """What is packed in it; its packed bytes where they do not inflate, or to more than 256 MiB."""
    packed = os.pread(fd, member.offset + member.size - member.data, member.data)
    if not member.window:
        return packed
    inflater = zlib.decompressobj(member.window)
    try:
        content = inflater.decompress(packed, _CONTENT_LIMIT)
    except zlib.error:
        return packed
    return content if inflater.eof else packed


def _zipped(fd: int, info: zipfile.ZipInfo) -> Member:
    if info.header_offset < 0:
        raise zipfile.BadZipFile("a member before the file's first byte")
    header = _LOCAL_HEADER.unpack(os.pread(fd, _LOCAL_HEADER.size, info.header_offset))
    data = info.header_offset + _LOCAL_HEADER.size + header[-2] + header[-1]
    window = -zlib.MAX_WBITS if info.compress_type == zipfile.ZIP_DEFLATED else 0
    end = data + info.compress_size
    if end > os.fstat(fd).st_size:
        raise zipfile.BadZipFile("a member that ends behind the file")
    is_code = info.filename.endswith(".pyc")
    return Member(info.filename, info.header_offset, end - info.header_offset, data, window, is_code)


def _bundled(fd: int) -> Iterator[Member]:
    """The members of a PyInstaller onefile, by the table that its cookie points to; none if there is no such thing."""
    size = os.fstat(fd).st_size
    start = max(0, size - _COOKIE_SEARCH)
    tail = os.pread(fd, size - start, start)
    at = tail.rfind(_COOKIE_WORD)
    if at < 0 or len(tail) - at < _COOKIE.size:
        return
    _, length, toc_offset, toc_size, _, _ = _COOKIE.unpack_from(tail, at)
    base = start + at + _COOKIE.size - length
    if base < 0 or toc_size > _TOC_LIMIT or toc_offset + toc_size > length:
        return
    toc = os.pread(fd, toc_size, base + toc_offset)
    entry, is_opened = 0, False
    while len(toc) - entry > _ENTRY.size:
        entry_size, offset, packed, _, is_packed, kind = _ENTRY.unpack_from(toc, entry)
        if entry_size <= _ENTRY.size or offset + packed > length:
            return
        name = toc[entry + _ENTRY.size : entry + entry_size].rstrip(b"\0").decode("utf-8", "replace")
        window = zlib.MAX_WBITS if is_packed else 0
        member = Member(name, base + offset, packed, base + offset, window, kind in _CODE)
        # A onefile has one such archive; a table that names one over and over would have members without end.
        is_archive = not is_opened and os.pread(fd, len(_MODULES_WORD), member.offset) == _MODULES_WORD
        is_opened = is_opened or is_archive
        yield from (_modules(fd, member) if is_archive else []) or [member]
        entry += entry_size


def _modules(fd: int, archive: Member) -> list[Member]:
    """The modules of an archive of modules, and the rest of it; none if it is no such archive, or damaged."""
    if archive.size < _MODULES_HEADER.size or archive.window:
        return []
    word, _, toc_offset = _MODULES_HEADER.unpack(os.pread(fd, _MODULES_HEADER.size, archive.offset))
    toc_size = archive.size - toc_offset
    if word != _MODULES_WORD or not 0 < toc_size <= _TOC_LIMIT:
        return []
    try:
        table = _Marshal(os.pread(fd, toc_size, archive.offset + toc_offset)).value()
    except (CodecError, struct.error, IndexError):
        return []
    found = []
    for entry in table if isinstance(table, list) else []:
        match entry:
            case (str(name), (int(), int(offset), int(size))) if 0 <= offset <= offset + size <= toc_offset:
                at = archive.offset + offset
                found.append(Member(f"{archive.name}/{name}", at, size, at, zlib.MAX_WBITS, is_code=True))
            case _:
                return []
    rest = replace(archive, name=f"{archive.name} (table)", size=toc_size, offset=archive.offset + toc_offset)
    return [*found, replace(rest, data=rest.offset)]


class _Marshal:
    """Reads what a table is made of: lists, tuples, numbers and texts.

    Args:
        data: as marshal wrote it.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._seen: list[object] = []

    def value(self, depth: int = 0) -> object:
        """The next value.

        Raises:
            CodecError, struct.error, IndexError: it is none of those, or is cut off.
        """
        [code] = self._take("B")
        kind, is_kept = chr(code & 0x7F), code & 0x80
        place = len(self._seen)
        if is_kept:
            self._seen.append(None)
        if kind in "[()":
            if depth == _DEEPEST:
                raise CodecError("a table in a table in a table")
            [count] = self._take("B" if kind == ")" else "<I")
            if count > len(self._data):
                raise CodecError("a table of more entries than it has bytes")
            values = [self.value(depth + 1) for _ in range(count)]
            found: object = values if kind == "[" else tuple(values)
        elif kind == "i":
            [found] = self._take("<i")
        elif kind in "zZaAut":
            [size] = self._take("B" if kind in "zZ" else "<I")
            found = self._data[self._at : self._at + size].decode("utf-8", "replace")
            self._at += size
        elif kind == "r":
            [number] = self._take("<I")
            return self._seen[number]
        else:
            raise CodecError(f"a value of kind {kind!r} in a table")
        if is_kept:
            self._seen[place] = found
        return found

    def _take(self, layout: str) -> tuple[int, ...]:
        values = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return values
