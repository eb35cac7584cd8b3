"""What devices with one file fetch of another: which ranges are new to them, and which members make them.

protocol.md "The chunk tree". For people, before a release. Counted are the chunks that the old file lacks, deflated
where that is shorter, and the tree nodes that the old file's tree lacks. Nothing is sent.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pypatcher.artifact.program import check_size
from pypatcher.artifact.replace import open_program
from pypatcher.artifact.sections import parse_elf
from pypatcher.artifact.tree import build_tree
from pypatcher.errors import ArtifactError

__all__ = ["Comparison", "Member", "compare_files", "file_members"]

_COOKIE = struct.Struct("!8sIIII64s")
_COOKIE_WORD = b"MEI\014\013\012\013\016"
_COOKIE_SEARCH = 64 << 10
_ENTRY = struct.Struct("!IIIIBc")
_TOC_LIMIT = 16 << 20
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Member:
    """A part of a file that people know by name."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """What it takes to make the new file of the old one.

    Attributes:
        old_size, new_size: bytes of the files.
        ranges: offset and bytes of what the old file does not have, in the new one.
        packed: bytes of all ranges, each zlib where that is shorter.
        index: bytes of the nodes of the new file's tree that the old one's does not have.
        members: members of the new file with the bytes of it that are new, those with the most first.
    """

    old_size: int
    new_size: int
    ranges: tuple[tuple[int, int], ...]
    packed: int
    index: int
    members: tuple[tuple[Member, int], ...]

    @property
    def moved(self) -> int:
        """Bytes that a device fetches."""
        return self.packed + self.index


def compare_files(old: Path, new: Path) -> Comparison:
    """Compare two programs, as they would be signed.

    Raises:
        ArtifactError: one of them cannot be read, is empty, or larger than a signed file may be.
        OSError: reading failed.
    """
    with open_program(old) as old_fd, open_program(new) as new_fd:
        old_size, new_size = check_size(old_fd), check_size(new_fd)
        before, after = build_tree(old_fd, old_size), build_tree(new_fd, new_size)
        here = {chunk.id for chunk in before.chunks()}
        ranges: list[tuple[int, int]] = []
        for chunk in after.chunks():
            if chunk.id in here:
                continue
            if ranges and sum(ranges[-1]) == chunk.offset:
                ranges[-1] = ranges[-1][0], ranges[-1][1] + chunk.size
            else:
                ranges.append((chunk.offset, chunk.size))
        members = file_members(new_fd)
        changed = ((member, sum(_overlap(member, each) for each in ranges)) for member in members)
        return Comparison(
            old_size,
            new_size,
            tuple(ranges),
            sum(_packed(new_fd, *each) for each in ranges),
            sum(len(node) for name, node in after.nodes.items() if name not in before.nodes),
            tuple(sorted((each for each in changed if each[1]), key=lambda each: -each[1])),
        )


def _packed(fd: int, offset: int, size: int) -> int:
    packer, packed = zlib.compressobj(), 0
    for at in range(offset, offset + size, _PIECE):
        packed += len(packer.compress(os.pread(fd, min(_PIECE, offset + size - at), at)))
    return min(size, packed + len(packer.flush()))


def _overlap(member: Member, new: tuple[int, int]) -> int:
    return max(0, min(member.offset + member.size, new[0] + new[1]) - max(member.offset, new[0]))


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
                    return [
                        Member(each.filename, each.header_offset, each.compress_size) for each in archive.infolist()
                    ]
            except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
                raise ArtifactError(f"it is a damaged zip file: {error}") from None
    try:
        sections = parse_elf(fd).sections
    except ArtifactError:
        return []
    return [Member(each.name, each.offset, each.size) for each in sections if each.is_in_file]


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
    entry = 0
    while len(toc) - entry > _ENTRY.size:
        entry_size, offset, packed, _, _, _ = _ENTRY.unpack_from(toc, entry)
        if entry_size <= _ENTRY.size or offset + packed > length:
            return
        name = toc[entry + _ENTRY.size : entry + entry_size].rstrip(b"\0").decode("utf-8", "replace")
        yield Member(name, base + offset, packed)
        entry += entry_size
