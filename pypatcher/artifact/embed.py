"""Giving a finished program its region: a real ELF section, the end of the file, or the zip comment.

design.md "The signed file". An ELF program of any class and byte order gets a section without anything being moved
that is loaded or referred to: a copy of its section names with one more, a copy of its section table with one more
entry, and the region are appended, and two numbers of the header then point there (System V ABI, chapter 4). A program
that looks for its own archive near its end (a onefile app) gets only the 176 bytes.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from pypatcher.artifact.locate import SECTION_NAMES, Carrier, Located, locate_region, region_section
from pypatcher.artifact.program import ProgramFile, check_size, examine_program
from pypatcher.artifact.region import REGION_SIZE, template
from pypatcher.artifact.replace import open_program, replacing, write_at
from pypatcher.artifact.sections import Elf
from pypatcher.artifact.zipapp import ZipEnd
from pypatcher.errors import ArtifactError, RegionError
from pypatcher.version import Version

__all__ = ["CARRIERS", "embed_region"]

CARRIERS = ("auto", *(carrier.value for carrier in Carrier))

_PROGBITS = 1
_MAX_SECTIONS = 4096
_MOST_THAT_IS_ADDED = 2 << 20
"""Bytes: a copy of the largest name and section tables that are read, and the region."""


def embed_region(
    path: Path, version: Version, *, carrier: str = "auto", any_machine: bool = False, out: Path | None = None
) -> Located:
    """Give the program at ``path`` an unsigned region with ``version`` in it, atomically.

    ``carrier`` is one of CARRIERS; ``auto`` takes a section where that is safe, the end of the file where that is, for
    a zipapp its comment, and refuses where neither can be told to be. Mode, owner and extended attributes are kept.
    With ``out`` the result goes there instead. With ``any_machine`` it may be for none of the known targets.

    Raises:
        RegionError: the file carries a region already.
        ArtifactError: it is no program, it is not told how it can carry one, or it cannot have that carrier.
        VersionError: the version cannot be announced.
        CannotReplaceError: the file cannot be replaced; nothing was changed.
    """
    version.seq()
    with open_program(path) as fd:
        _choose(fd, carrier, any_machine=any_machine)
    with replacing(path, out) as fd:
        chosen, program = _choose(fd, carrier, any_machine=any_machine)
        region = template(version)
        if program.zip_end is not None:
            _set_comment(fd, program.zip_end, region)
        elif chosen is Carrier.SECTION and program.elf is not None:
            _append_section(fd, program.elf, region)
        else:
            write_at(fd, region, program.file_size)
        located = locate_region(fd)
        if located.carrier is not chosen:
            raise ArtifactError(f"it cannot carry its region as {chosen.value}")
    return located


def _choose(fd: int, wanted: str, *, any_machine: bool) -> tuple[Carrier, ProgramFile]:
    """The carrier for a file, and what the file is."""
    check_size(fd, _MOST_THAT_IS_ADDED)
    program = examine_program(fd)
    if program.located is not None:
        raise RegionError(
            f"it carries a region already, at offset {program.located.offset}: sign it as it is ('pypatcher sign')"
        )
    if program.elf is not None and region_section(program.elf) is not None:
        raise RegionError("its signature section holds no region: link it with the C header, or without that section")
    program.check_for(None, any_machine=any_machine)
    if program.elf is None:
        if wanted not in ("auto", Carrier.ZIP_COMMENT.value):
            raise ArtifactError("a zipapp carries its region in its comment only: leave --carrier out")
        return Carrier.ZIP_COMMENT, program
    if wanted == Carrier.ZIP_COMMENT.value:
        raise ArtifactError("an ELF program has no zip comment: leave --carrier out")
    if wanted == Carrier.SECTION.value and not program.elf.sections:
        raise ArtifactError("it has no section table to add to: use --carrier tail")
    return (_safe_carrier(program, program.elf) if wanted == "auto" else Carrier(wanted)), program


def _safe_carrier(program: ProgramFile, elf: Elf) -> Carrier:
    """Where a region cannot be in the way."""
    if any(section.name in _archive_sections() for section in elf.sections):
        return Carrier.TAIL
    behind = program.bytes_behind
    if behind:
        raise ArtifactError(
            f"{behind} bytes follow its last section, as packagers append them: some look for them in the file's very "
            "last bytes, and such a program would not run any more with anything behind them. See the table in "
            "docs/packagers.md, or try on a copy: --out COPY --carrier tail (or section), and run COPY"
        )
    return Carrier.SECTION if elf.sections else Carrier.TAIL


def _archive_sections() -> set[str]:
    """Sections by which packagings are known that look for their archive near the file's end."""
    from pypatcher.process import known_packagings

    return {packaging.archive_section for packaging in known_packagings() if packaging.archive_section}


def _append_section(fd: int, elf: Elf, region: bytes) -> None:
    if len(elf.sections) >= _MAX_SECTIONS:
        raise ArtifactError("it has too many sections for one more: use --carrier tail")
    order = "<" if elf.byte_order == "little" else ">"
    word, align = ("Q", 8) if elf.elf_class == 64 else ("I", 4)
    entry = struct.Struct(f"{order}II4{word}II2{word}")
    names = elf.sections[elf.names_index]
    new_names = os.pread(fd, names.size, names.offset) + SECTION_NAMES[0].encode("ascii") + b"\0"

    names_offset = os.fstat(fd).st_size
    table_offset = -(-(names_offset + len(new_names)) // align) * align
    table = bytearray(os.pread(fd, elf.table_end - elf.table_offset, elf.table_offset))
    region_offset = table_offset + len(table) + entry.size
    if elf.elf_class == 32 and region_offset + REGION_SIZE >= 1 << 32:
        raise ArtifactError("it is too large for one more section: use --carrier tail")

    at = elf.names_index * entry.size
    name, kind, flags, address, _, _, *others = entry.unpack_from(table, at)
    entry.pack_into(table, at, name, kind, flags, address, names_offset, len(new_names), *others)
    table += entry.pack(names.size, _PROGBITS, 0, 0, region_offset, REGION_SIZE, 0, 0, 1, 0)

    write_at(fd, new_names, names_offset)
    write_at(fd, bytes(table), table_offset)
    write_at(fd, region, region_offset)
    table_field, count_field = (40, 60) if elf.elf_class == 64 else (32, 48)
    write_at(fd, struct.pack(f"{order}{word}", table_offset), table_field)
    write_at(fd, struct.pack(f"{order}H", len(elf.sections) + 1), count_field)


def _set_comment(fd: int, end: ZipEnd, region: bytes) -> None:
    write_at(fd, struct.pack("<H", REGION_SIZE), end.offset + 20)
    write_at(fd, region, os.fstat(fd).st_size)
