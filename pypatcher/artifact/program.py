"""What a file is and which targets it is for: the one check that every command for people makes first.

``embed``, ``sign``, ``verify``, ``inspect``, ``seed`` and ``adopt`` call `examine_program`, so that none of them takes
what another one, or every device, refuses. It is stricter than a device, which has only to be safe: here a person is
present who can build the file again. Sizes come first, so that nothing reads for hours what can be told at once.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from pypatcher.artifact.fit import check_parts, describe_elf, program_parts, targets_of
from pypatcher.artifact.locate import Located, locate_region, scan_regions
from pypatcher.artifact.patch import MAX_FILE_SIZE
from pypatcher.artifact.region import REGION_SIZE
from pypatcher.artifact.sections import ELF_MAGIC, Elf, check_is_program, parse_elf
from pypatcher.artifact.segments import Segment, read_segments
from pypatcher.artifact.zipapp import ZipEnd, looks_like_zipapp, member_heads, read_end, read_foreign_comment
from pypatcher.errors import ArtifactError, NoRegionError, RegionError, WrongTargetError
from pypatcher.targets import Target, load_targets

__all__ = ["ProgramFile", "check_size", "examine_program"]

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_EXECUTABLE = 1
_ET_DYN = 3
_NOBITS = 8
_DT_NEEDED, _DT_SONAME, _DT_FLAGS_1 = 1, 14, 0x6FFFFFFB
_DF_1_PIE = 0x08000000
_DYNAMIC_LIMIT = 1 << 20
_MAIN = {"__main__.py", "__main__.pyc"}


@dataclass(frozen=True, slots=True)
class ProgramFile:
    """A program file, as far as it tells.

    Attributes:
        file_size: bytes of it.
        elf: its header and sections; None for a zipapp.
        segments: its program headers; none for a zipapp.
        zip_end: where the archive of a zipapp ends; None for ELF.
        parts: the program itself, or each ELF member of a zipapp.
        fits: names of the known targets that it is for.
        located: where its one region is, as a device finds it; None without one.
    """

    file_size: int
    elf: Elf | None
    segments: tuple[Segment, ...]
    zip_end: ZipEnd | None
    parts: tuple[tuple[str, Elf], ...]
    fits: frozenset[str]
    located: Located | None

    def check_for(self, target: Target | None, *, any_machine: bool = False) -> None:
        """Check that a device could take it: one of ``target``, or of any known one.

        Args:
            any_machine: it may be for a machine that is no target, as in the namespace ``rustpatcher``.

        Raises:
            WrongTargetError: no device would.
        """
        if target is not None:
            check_parts(self.parts, target)
        elif not self.fits and not any_machine:
            raise WrongTargetError(f"no device takes it: {self.why_for_none()}")

    def why_for_none(self) -> str:
        """Why it is for no known target, in words."""
        machines = sorted({describe_elf(elf) for _, elf in self.parts})
        if len(machines) > 1:
            return f"its members are built for {' and for '.join(machines)}; make one file for each target"
        return f"it is built for {machines[0]}, which is none of {', '.join(load_targets())}"

    @property
    def bytes_behind(self) -> int:
        """Bytes of an ELF file behind all that its tables speak of: what a packager appended."""
        if self.elf is None or not (self.elf.sections or self.segments):
            return 0
        sections = [section.offset + section.size for section in self.elf.sections if section.is_in_file]
        segments = [segment.offset + segment.file_size for segment in self.segments]
        return self.file_size - max([*sections, *segments, self.elf.table_end])

    def check_region(self) -> Located:
        """Where its region is.

        Raises:
            NoRegionError: it has none.
        """
        if self.located is None:
            raise NoRegionError("it carries no signature region: give it one with 'pypatcher embed' or the C header")
        return self.located


def check_size(fd: int, added: int = 0) -> int:
    """The file's size, if a signed file may have it with ``added`` bytes more.

    Raises:
        ArtifactError: it would be larger than 4 GiB.
    """
    size = os.fstat(fd).st_size
    if size + added > MAX_FILE_SIZE:
        with_more = f", and gets up to {added} more" if added else ""
        raise ArtifactError(f"it has {size} bytes{with_more}: a signed file may have at most {MAX_FILE_SIZE}")
    return size


def examine_program(fd: int) -> ProgramFile:
    """Say what a file is.

    Raises:
        ArtifactError: it is too large, or nothing that can be started, or it cannot be told what it is.
        RegionError: it carries several regions, or one where no device takes it.
        OSError: reading failed.
    """
    size = check_size(fd)
    elf: Elf | None = None
    segments: tuple[Segment, ...] = ()
    end: ZipEnd | None = None
    if os.pread(fd, 4, 0) == ELF_MAGIC:
        try:
            elf = parse_elf(fd)
        except ArtifactError as error:
            raise RegionError(f"the place of its region cannot be told: {error}") from None
        check_is_program(elf)
        segments = read_segments(fd, elf)
        _check_can_start(fd, elf, segments)
    elif looks_like_zipapp(fd):
        end = _zip_end(fd)
    else:
        raise NoRegionError("it is neither an ELF program nor a zipapp, so it can carry no signature region")
    parts = tuple(program_parts(fd))
    if end is not None and _MAIN.isdisjoint(name for name, _ in member_heads(fd, end, 0)):
        raise ArtifactError("it is a zip archive without a __main__.py, which Python cannot start: give a zipapp")
    return ProgramFile(size, elf, segments, end, parts, targets_of(parts), _the_region(fd))


def _the_region(fd: int) -> Located | None:
    regions = scan_regions(fd)
    if len(regions) > 1:
        places = ", ".join(map(str, regions))
        raise RegionError(f"it carries {len(regions)} regions, at {places}: there must be exactly one")
    try:
        located = locate_region(fd)
    except NoRegionError:
        if not regions:
            return None
        located = None
    if located is None or [located.offset] != regions:
        raise RegionError(
            f"it carries a region at offset {regions[0]}, where no device takes it: its section table was removed "
            "(sstrip), or bytes were appended, after the region was made. Build it again, and do such things before"
        )
    return located


def _zip_end(fd: int) -> ZipEnd:
    try:
        return read_end(fd, REGION_SIZE)
    except ArtifactError:
        pass
    try:
        return read_end(fd, 0)
    except ArtifactError as error:
        comment = read_foreign_comment(fd)
        if comment is None:
            raise
        raise ArtifactError(
            f"its zip comment holds {comment} bytes of somebody else's, and a zipapp carries its region there: write "
            "the archive without a comment"
        ) from error


def _check_can_start(fd: int, elf: Elf, segments: tuple[Segment, ...]) -> None:
    """Refuse a split debug file and a shared library, which look like the programs that they came from."""
    if not segments:
        raise ArtifactError("it has no program headers, without which no system starts it")
    loads = [segment for segment in segments if segment.kind == _PT_LOAD]
    size = os.fstat(fd).st_size
    if any(segment.offset + segment.file_size > size for segment in loads):
        if any(section.kind == _NOBITS and section.name == ".text" for section in elf.sections):
            raise ArtifactError("it is the split debug file of a program (objcopy --only-keep-debug): take the program")
        raise ArtifactError("it is truncated: a part of it that is loaded lies behind its end")
    code = [segment for segment in loads if segment.flags & _EXECUTABLE]
    emptied = any(section.kind == _NOBITS and section.name in (".text", ".init") for section in elf.sections)
    if emptied or not any(segment.file_size for segment in code):
        raise ArtifactError("it holds no code: a split debug file (objcopy --only-keep-debug)? Take the program itself")
    if elf.kind == _ET_DYN and not any(segment.kind == _PT_INTERP for segment in segments):
        tags = _dynamic_tags(fd, elf, segments)
        # A static PIE has neither an interpreter nor needed libraries, and linkers mark it as a PIE.
        no_start = _DT_NEEDED in tags or _DT_SONAME in tags or not _entry_point(fd, elf)
        if not tags.get(_DT_FLAGS_1, 0) & _DF_1_PIE and no_start:
            raise ArtifactError("it is a shared library, which nobody can start: give the program itself")


def _entry_point(fd: int, elf: Elf) -> int:
    return int.from_bytes(os.pread(fd, elf.elf_class // 8, 24), "little" if elf.byte_order == "little" else "big")


def _dynamic_tags(fd: int, elf: Elf, segments: tuple[Segment, ...]) -> dict[int, int]:
    entry = struct.Struct(("<" if elf.byte_order == "little" else ">") + ("qQ" if elf.elf_class == 64 else "iI"))
    for segment in segments:
        if segment.kind == _PT_DYNAMIC:
            data = os.pread(fd, min(segment.file_size, _DYNAMIC_LIMIT), segment.offset)
            whole = data[: len(data) // entry.size * entry.size]
            return dict(entry.iter_unpack(whole))
    return {}
