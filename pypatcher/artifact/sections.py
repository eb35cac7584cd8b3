"""The ELF header and section table of a program file, read with bounds and refused when anything in them is off.

The bytes are parsed by the compiled twin (``_speedups/sections.pyx``) or the pure one; which bytes are read, and how
many at most, is decided here. What a section means is not known here. "A table that cannot be parsed is a refusal,
never a reason to look elsewhere" (design.md): every doubt raises.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from pypatcher.errors import ArtifactError

__all__ = [
    "COMPILED",
    "ELF_MAGIC",
    "HEADER_SIZE",
    "Elf",
    "Section",
    "check_is_program",
    "parse_elf",
    "parse_elf_header",
]

if os.environ.get("PYPATCHER_NO_EXTENSIONS", "0") in ("", "0"):
    try:
        from pypatcher.artifact._sections_c import parse_header, parse_sections, section_names
    except ImportError:
        from pypatcher.artifact._sections_py import parse_header, parse_sections, section_names
else:
    from pypatcher.artifact._sections_py import parse_header, parse_sections, section_names

COMPILED = not parse_header.__module__.endswith("_py")
"""Whether the compiled twin is in use."""

ELF_MAGIC = b"\x7fELF"
HEADER_SIZE = 64
"""Bytes that the longer of the two ELF headers has."""

_PROGRAM_KINDS = (2, 3)
_STRTAB = 3
_NULL, _NOBITS = 0, 8
_SECTION_LIMIT = 4096
_NAME_TABLE_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Section:
    """One entry of a section table: name, ``sh_type``, offset and size in the file."""

    name: str
    kind: int
    offset: int
    size: int

    @property
    def is_in_file(self) -> bool:
        """Whether the section has bytes in the file (``.bss`` has none)."""
        return self.kind not in (_NULL, _NOBITS)


@dataclass(frozen=True, slots=True)
class Elf:
    """What an ELF header says, and the sections if they were asked for.

    Attributes:
        machine: ``e_machine``.
        elf_class: 32 or 64.
        byte_order: ``little`` or ``big``.
        flags: ``e_flags``.
        kind: ``e_type``.
        table_offset: where the section table begins; 0 without one.
        table_end: where it ends.
        names_index: index of the section that holds the names.
        sections: every entry, the null one first; empty where the file has no table.
    """

    machine: int
    elf_class: int
    byte_order: str
    flags: int
    kind: int
    table_offset: int = 0
    table_end: int = 0
    names_index: int = 0
    sections: tuple[Section, ...] = ()


def check_is_program(elf: Elf) -> None:
    """Refuse ELF files that nobody can start.

    Raises:
        ArtifactError: an object file or a core dump.
    """
    if elf.kind not in _PROGRAM_KINDS:
        raise ArtifactError("it is an ELF file but no program (an object file, or a core dump)")


def parse_elf_header(data: bytes) -> Elf:
    """Read only the header, from the first 64 bytes of a file; its section table is not looked at.

    Raises:
        ArtifactError: it is no ELF header.
    """
    machine, elf_class, little, flags, kind, *_ = parse_header(data)
    return Elf(machine, elf_class, "little" if little else "big", flags, kind)


def parse_elf(fd: int) -> Elf:
    """Read the header and the section table of a file.

    At most 4096 sections and 1 MiB of names are read: a linked program has some dozens, and this also comes from peers.

    Raises:
        ArtifactError: header, table or names cannot be parsed, or do not lie inside the file.
        OSError: reading failed.
    """
    file_size = os.fstat(fd).st_size
    header = os.pread(fd, HEADER_SIZE, 0)
    machine, elf_class, little, flags, kind, offset, entry_size, count, names_index = parse_header(header)
    byte_order = "little" if little else "big"
    if offset == 0 and count == 0 and names_index == 0:
        return Elf(machine, elf_class, byte_order, flags, kind)
    expected = 64 if elf_class == 64 else 40
    end = offset + count * entry_size
    if entry_size != expected or not 0 < names_index < count <= _SECTION_LIMIT:
        raise ArtifactError("its ELF header describes no usable section table")
    if offset < (64 if elf_class == 64 else 52) or end > file_size:
        raise ArtifactError("its ELF section table is not inside the file")
    entries = parse_sections(os.pread(fd, end - offset, offset), elf_class, little, file_size)
    if len(entries) != count:
        raise ArtifactError("its ELF section table is truncated")
    _, names_kind, names_offset, names_size = entries[names_index]
    if names_kind != _STRTAB or names_size > _NAME_TABLE_LIMIT:
        raise ArtifactError("its ELF section names are damaged")
    # An inactive entry has no name: its other fields are undefined.
    name_offsets = [name if section_kind != _NULL else 0 for name, section_kind, _, _ in entries]
    names = section_names(os.pread(fd, names_size, names_offset), name_offsets)
    sections = tuple(Section(name, *entry[1:]) for name, entry in zip(names, entries, strict=True))
    return Elf(machine, elf_class, byte_order, flags, kind, offset, end, names_index, sections)
