# cython: language_level=3, boundscheck=False, wraparound=False
"""The bytes of an ELF header, section table and name table, checked; bounds before every access.

System V ABI, chapter 4. The pure twin is ``pypatcher/artifact/_sections_py.py``: same functions, same answers, same
messages.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memchr, memcmp

from pypatcher.errors import ArtifactError

cdef Py_ssize_t NAMES_LIMIT = 4 * 1024 * 1024


cdef uint64_t number(const unsigned char *at, int size, bint little) noexcept nogil:
    cdef uint64_t value = 0
    cdef int index
    for index in range(size):
        value = value << 8 | at[size - 1 - index if little else index]
    return value


def parse_header(bytes data):
    """As ``_sections_py.parse_header``."""
    cdef const unsigned char *at = data
    cdef Py_ssize_t length = len(data)
    if length < 4 or memcmp(at, b"\x7fELF", 4) != 0:
        raise ArtifactError("it is no ELF file")
    if length < 16 or not 1 <= at[4] <= 2 or not 1 <= at[5] <= 2 or at[6] != 1:
        raise ArtifactError("its ELF identification is damaged")
    cdef bint wide = at[4] == 2
    cdef bint little = at[5] == 1
    cdef int size = 64 if wide else 52
    if length < size:
        raise ArtifactError("its ELF header is truncated")
    cdef int word = 8 if wide else 4
    cdef const unsigned char *tail = at + 24 + 3 * word
    if number(at + 20, 4, little) != 1 or number(tail + 4, 2, little) != <uint64_t>size:
        raise ArtifactError("its ELF header is damaged")
    return (
        number(at + 18, 2, little),
        64 if wide else 32,
        bool(little),
        number(tail, 4, little),
        number(at + 16, 2, little),
        number(at + 24 + 2 * word, word, little),
        number(tail + 10, 2, little),
        number(tail + 12, 2, little),
        number(tail + 14, 2, little),
    )


def parse_sections(bytes table, int elf_class, bint little, uint64_t file_size):
    """As ``_sections_py.parse_sections``."""
    cdef const unsigned char *at = table
    cdef Py_ssize_t length = len(table)
    cdef int word = 8 if elf_class == 64 else 4
    cdef Py_ssize_t entry = 16 + 6 * word
    cdef Py_ssize_t index
    cdef uint64_t kind, offset, size
    if length == 0 or length % entry:
        raise ArtifactError("its ELF section table is truncated")
    for index in range(4, entry):  # What a name means there is undefined; postject writes one.
        if at[index]:
            raise ArtifactError("its ELF section table does not begin with a null entry")
    sections = []
    for index in range(length // entry):
        kind = number(at + 4, 4, little)
        offset = number(at + 8 + 2 * word, word, little)
        size = number(at + 8 + 3 * word, word, little)
        if kind != 0 and kind != 8 and (offset > file_size or size > file_size - offset):
            raise ArtifactError(f"its ELF section {index} is not inside the file")
        sections.append((number(at, 4, little), kind, offset, size))
        at += entry
    return sections


def section_names(bytes names, list offsets):
    """As ``_sections_py.section_names``."""
    cdef const unsigned char *at = names
    cdef Py_ssize_t length = len(names)
    cdef Py_ssize_t size, total = 0
    cdef uint64_t offset
    if length < 1 or at[0] or at[length - 1]:
        raise ArtifactError("its ELF section names are damaged")
    found = []
    for offset in offsets:
        if offset >= <uint64_t>length:
            raise ArtifactError("its ELF section names are damaged")
        size = <const unsigned char *>memchr(at + offset, 0, length - offset) - (at + offset)
        total += size
        if total > NAMES_LIMIT:
            raise ArtifactError("its ELF section names are too long")
        found.append((at + offset)[:size].decode("latin-1"))
    return found
