"""The pure twin of ``_speedups/sections.pyx``: the bytes of an ELF header, section table and name table, checked.

System V ABI, chapter 4. Everything is hostile: no offset is followed here, only looked at. Same functions, same
answers, same messages as the compiled twin.
"""

from __future__ import annotations

import struct

from pypatcher.errors import ArtifactError

__all__ = ["parse_header", "parse_sections", "section_names"]

_HEADERS = {
    order + str(bits): struct.Struct(order + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"))
    for order in "<>"
    for bits in (32, 64)
}
_ENTRIES = {
    order + str(bits): struct.Struct(order + ("IIQQQQIIQQ" if bits == 64 else "IIIIIIIIII"))
    for order in "<>"
    for bits in (32, 64)
}
_NULL, _NOBITS = 0, 8
_NAMES_LIMIT = 4 * 1024 * 1024


def parse_header(data: bytes) -> tuple[int, int, bool, int, int, int, int, int, int]:
    """Read an ELF header from the first 64 bytes of a file (fewer if it is shorter).

    Returns machine, class (32 or 64), whether it is little-endian, flags, type, then offset, entry size and number of
    entries of the section table, and the index of the name table.

    Raises:
        ArtifactError: it is no ELF header of version 1.
    """
    if data[:4] != b"\x7fELF":
        raise ArtifactError("it is no ELF file")
    if len(data) < 16 or data[4] not in (1, 2) or data[5] not in (1, 2) or data[6] != 1:
        raise ArtifactError("its ELF identification is damaged")
    bits = 32 * data[4]
    size = 52 if bits == 32 else 64
    if len(data) < size:
        raise ArtifactError("its ELF header is truncated")
    fields = _HEADERS["<>"[data[5] - 1] + str(bits)].unpack_from(data, 16)
    kind, machine, version, _, _, table_offset, flags, header_size, _, _, entry_size, count, names_index = fields
    if version != 1 or header_size != size:
        raise ArtifactError("its ELF header is damaged")
    return machine, bits, data[5] == 1, flags, kind, table_offset, entry_size, count, names_index


def parse_sections(table: bytes, elf_class: int, little: bool, file_size: int) -> list[tuple[int, int, int, int]]:
    """Read a section table: for every entry its name's offset, type, file offset and size.

    Raises:
        ArtifactError: the table is cut off, its first entry is not null, or a section is not inside the file.
    """
    entry = _ENTRIES["><"[little] + str(elf_class)]
    if not table or len(table) % entry.size:
        raise ArtifactError("its ELF section table is truncated")
    # What a name means there is undefined; postject writes one.
    if any(table[4 : entry.size]):
        raise ArtifactError("its ELF section table does not begin with a null entry")
    sections = []
    for number, (name, kind, _, _, offset, size, *_) in enumerate(entry.iter_unpack(table)):
        if kind not in (_NULL, _NOBITS) and offset + size > file_size:
            raise ArtifactError(f"its ELF section {number} is not inside the file")
        sections.append((name, kind, offset, size))
    return sections


def section_names(names: bytes, offsets: list[int]) -> list[str]:
    """The names at ``offsets`` of a name table, each byte one character (ISO 8859-1).

    Raises:
        ArtifactError: the table does not begin and end with NUL, an offset is outside, or all names together are
            longer than 4 MiB.
    """
    if len(names) < 1 or names[0] or names[-1]:
        raise ArtifactError("its ELF section names are damaged")
    total = 0
    found = []
    for offset in offsets:
        if offset >= len(names):
            raise ArtifactError("its ELF section names are damaged")
        end = names.index(0, offset)
        total += end - offset
        if total > _NAMES_LIMIT:
            raise ArtifactError("its ELF section names are too long")
        found.append(names[offset:end].decode("latin-1"))
    return found
