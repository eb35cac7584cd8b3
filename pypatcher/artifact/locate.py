"""Where a file's region is: the one strict rule, and the scan that only people's tools may use.

design.md "The signed file": a region counts only where its carrier puts it, for the signature does not cover its place.

- ELF with a section ``.embedded_signature`` or ``.embsig``: exactly that section's offset and size;
- ELF whose header and section table parse and name no such section: the last 176 bytes;
- zipapp: exactly the zip comment.

A table that cannot be parsed is a refusal, never a reason to look elsewhere.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from pypatcher.artifact.hashing import find_markers
from pypatcher.artifact.region import MARKER_SIZE, REGION_SIZE, SECOND_MARKER, marker
from pypatcher.artifact.sections import ELF_MAGIC, Elf, parse_elf
from pypatcher.artifact.zipapp import END_SIZE, looks_like_zipapp, read_end
from pypatcher.errors import ArtifactError, NoRegionError, RegionError

__all__ = ["SECTION_NAMES", "Carrier", "Located", "locate_region", "region_section", "scan_regions"]

SECTION_NAMES = (".embedded_signature", ".embsig")
"""Ours, and that of programs built with the Rust crate 0.2.2."""

_NO_REGION = "it carries no signature region: give it one with 'pypatcher embed' or the C header"


class Carrier(Enum):
    """Where in a file a region may be."""

    SECTION = "section"
    TAIL = "tail"
    ZIP_COMMENT = "comment"


@dataclass(frozen=True, slots=True)
class Located:
    """A region's carrier and offset."""

    carrier: Carrier
    offset: int


def locate_region(fd: int) -> Located:
    """Find the region where its carrier puts it; its markers are checked, its content is not.

    Raises:
        NoRegionError: the file carries none.
        RegionError: its tables cannot be parsed, or the section named for it is none.
        OSError: reading failed.
    """
    located = _locate(fd)
    if not _is_region_at(fd, located.offset):
        if located.carrier is Carrier.SECTION:
            raise RegionError("its signature section holds no region: the file is damaged or was changed")
        raise NoRegionError(_NO_REGION)
    return located


def _is_region_at(fd: int, offset: int) -> bool:
    """Whether a region's two markers stand at ``offset``.

    Raises:
        OSError: reading failed.
    """
    data = os.pread(fd, REGION_SIZE, offset)
    return len(data) == REGION_SIZE and data[:MARKER_SIZE] == marker() == data[SECOND_MARKER:]


def region_section(elf: Elf) -> Located | None:
    """The place that an ELF file's section gives the region; None where it names no such section.

    Raises:
        RegionError: there are two of them, or it is not of exactly 176 bytes in the file.
    """
    match [section for section in elf.sections if section.name in SECTION_NAMES]:
        case []:
            return None
        case [section]:
            if section.size != REGION_SIZE or not section.is_in_file:
                raise RegionError(
                    f"its section {section.name} has {section.size} bytes instead of {REGION_SIZE}: "
                    "place the region once in the whole program"
                )
            return Located(Carrier.SECTION, section.offset)
    raise RegionError("it has two signature sections: place the region once in the whole program")


def scan_regions(fd: int) -> list[int]:
    """Offsets of everything in a file that looks like a region, wherever it is. For people's tools only.

    Raises:
        RegionError: the file holds more than 1024 markers.
        OSError: reading failed.
    """
    offsets = find_markers(fd)
    return sorted(set(offsets) & {offset - SECOND_MARKER for offset in offsets})


def _locate(fd: int) -> Located:
    file_size = os.fstat(fd).st_size
    if os.pread(fd, 4, 0) == ELF_MAGIC:
        try:
            elf = parse_elf(fd)
        except ArtifactError as error:
            raise RegionError(f"the place of its region cannot be told: {error}") from None
        located = region_section(elf)
        if located is not None:
            return located
        tail = file_size - REGION_SIZE
        used = [section.offset + section.size for section in elf.sections if section.is_in_file]
        if max(used, default=0) > tail or elf.table_end > tail:
            raise NoRegionError(_NO_REGION)
        return Located(Carrier.TAIL, tail)
    if looks_like_zipapp(fd):
        try:
            end = read_end(fd, REGION_SIZE)
        except ArtifactError as error:
            raise NoRegionError(f"its zip comment is no region ({error}): use 'pypatcher embed'") from None
        return Located(Carrier.ZIP_COMMENT, end.offset + END_SIZE)
    raise NoRegionError("it is neither an ELF program nor a zipapp, so it can carry no signature region")
