"""Everything that a file says about itself, and everything that is wrong with it: for people, never for a decision.

Unlike ``verify`` this never stops at the first problem, and it looks for regions where no device would.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

from pypatcher.artifact.fit import describe_elf, program_target
from pypatcher.artifact.locate import Carrier, locate_region, scan_regions
from pypatcher.artifact.patch import PatchInfo
from pypatcher.artifact.program import check_size, examine_program
from pypatcher.artifact.sections import ELF_MAGIC, Section, parse_elf
from pypatcher.artifact.verify import check_content, read_region
from pypatcher.artifact.zipapp import looks_like_zipapp
from pypatcher.errors import ArtifactError, ContentMismatchError, SignatureMismatchError
from pypatcher.keys import OwnerKey

__all__ = ["Survey", "survey_file"]


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found.

    Attributes:
        file_size: bytes of the file.
        kind: for people, such as ``ELF: AArch64, 64 bit, little-endian``.
        targets: known targets that it fits.
        sections: those of an ELF file.
        regions: offsets of everything that looks like a region.
        carrier: what holds the region, if it is where a device would take it.
        offset: where the region is that ``info`` was read from.
        info: what that region says.
        is_intact: whether length and hash are what the region says; None without one, or while it is unsigned.
        is_signed_by_owner: None if no owner was given, or the content is not intact.
        problems: one line each.
    """

    file_size: int
    kind: str
    targets: tuple[str, ...]
    sections: tuple[Section, ...]
    regions: tuple[int, ...]
    carrier: Carrier | None
    offset: int | None
    info: PatchInfo | None
    is_intact: bool | None
    is_signed_by_owner: bool | None
    problems: tuple[str, ...]


def survey_file(fd: int, owner: OwnerKey | None = None) -> Survey:
    """Look at everything in a file.

    Raises:
        OSError: reading failed.
    """
    problems: list[str] = []
    size = os.fstat(fd).st_size
    try:
        check_size(fd)
    except ArtifactError as error:
        # Nothing is read that could take hours.
        return Survey(size, "too large", (), (), (), None, None, None, None, None, (str(error),))
    kind, sections = _kind(fd, problems)
    targets: tuple[str, ...] = ()
    regions: tuple[int, ...] = ()
    carrier = offset = info = None
    try:
        examine_program(fd).check_for(None)
    except ArtifactError as error:
        problems.append(str(error))
    with contextlib.suppress(ArtifactError):
        targets = tuple(sorted(program_target(fd)))
    try:
        regions = tuple(scan_regions(fd))
        located = locate_region(fd)
        carrier, offset = located.carrier, located.offset
    except ArtifactError as error:
        problems.append(str(error))
        offset = regions[0] if len(regions) == 1 else None
    if offset is not None:
        try:
            info = read_region(fd, offset)
        except ArtifactError as error:
            problems.append(str(error))
    is_intact, is_signed = _check(fd, info, offset, owner, problems)
    lines = tuple(dict.fromkeys(problems))
    return Survey(size, kind, targets, sections, regions, carrier, offset, info, is_intact, is_signed, lines)


def _kind(fd: int, problems: list[str]) -> tuple[str, tuple[Section, ...]]:
    if os.pread(fd, 4, 0) == ELF_MAGIC:
        try:
            elf = parse_elf(fd)
        except ArtifactError as error:
            problems.append(str(error))
            return "ELF, damaged", ()
        return f"ELF: {describe_elf(elf)}", elf.sections[1:]
    return "zipapp" if looks_like_zipapp(fd) else "neither ELF nor zipapp", ()


def _check(
    fd: int, info: PatchInfo | None, offset: int | None, owner: OwnerKey | None, problems: list[str]
) -> tuple[bool | None, bool | None]:
    if info is None or offset is None:
        return None, None
    if not info.is_signed:
        problems.append("its region is not signed yet")
        return None, None
    try:
        check_content(fd, info, offset)
    except ContentMismatchError as error:
        problems.append(str(error))
        return False, None
    if owner is None:
        return True, None
    try:
        info.verify(owner)
    except SignatureMismatchError as error:
        problems.append(str(error))
        return True, False
    return True, True
