"""The program headers of an ELF file: what the kernel maps, for those who must tell a program from what looks like one.

System V ABI, chapter 5. A device decides nothing from them.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from pypatcher.artifact.sections import HEADER_SIZE, Elf
from pypatcher.errors import ArtifactError

__all__ = ["Segment", "read_segments"]

_LIMIT = 4096


@dataclass(frozen=True, slots=True)
class Segment:
    """One program header: ``p_type``, ``p_flags``, offset and size in the file."""

    kind: int
    flags: int
    offset: int
    file_size: int


def read_segments(fd: int, elf: Elf) -> tuple[Segment, ...]:
    """Every program header of a file whose ELF header is ``elf``; none where the header names none.

    Raises:
        ArtifactError: they are damaged, or not inside the file.
        OSError: reading failed.
    """
    order = "<" if elf.byte_order == "little" else ">"
    header = os.pread(fd, HEADER_SIZE, 0)
    wide = elf.elf_class == 64
    (offset,) = struct.unpack_from(order + ("Q" if wide else "I"), header, 32 if wide else 28)
    entry_size, count = struct.unpack_from(order + "HH", header, 54 if wide else 42)
    if not count:
        return ()
    entry = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    data = os.pread(fd, count * entry.size, offset) if count <= _LIMIT else b""
    if entry_size != entry.size or len(data) != count * entry.size:
        raise ArtifactError("its ELF program headers are damaged, or not inside the file")
    if wide:
        return tuple(Segment(kind, flags, at, size) for kind, flags, at, _, _, size, *_ in entry.iter_unpack(data))
    return tuple(Segment(kind, flags, at, size) for kind, at, _, _, size, _, flags, _ in entry.iter_unpack(data))
