"""ELF headers and section tables: both twins, both classes and byte orders, honest and hostile."""

from __future__ import annotations

import os
import shutil
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypatcher.artifact import _sections_py as pure
from pypatcher.artifact.sections import parse_elf, parse_elf_header
from pypatcher.errors import ArtifactError
from tests.support.programs import AARCH64, ARM, NOBITS, PROGBITS, STRTAB, make_elf

Opened = Callable[[bytes], int]
KINDS = [(bits, order) for bits in (32, 64) for order in "<>"]


def _answer(function: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return function(*arguments)
    except ArtifactError as error:
        return str(error)


@pytest.mark.parametrize(("bits", "order"), KINDS)
def test_every_class_and_byte_order_is_read(parser: ModuleType, bits: int, order: str) -> None:
    data = make_elf(bits=bits, order=order, machine=AARCH64, flags=0x5000400, kind=2)
    machine, elf_class, little, flags, kind, offset, entry_size, count, names = parser.parse_header(data[:64])
    assert (machine, elf_class, little, flags, kind) == (AARCH64, bits, order == "<", 0x5000400, 2)
    assert (entry_size, count, names) == (40 if bits == 32 else 64, 3, 2)
    entries = parser.parse_sections(data[offset:], bits, little, len(data))
    assert entries[0] == (0, 0, 0, 0)
    header_size = 52 if bits == 32 else 64
    assert entries[1] == (1, PROGBITS, header_size, 40)
    _, kind, at, size = entries[2]
    assert kind == STRTAB
    assert parser.section_names(data[at : at + size], [0, 1, entries[2][0]]) == ["", ".text", ".shstrtab"]


@pytest.mark.parametrize("path", [sys.executable, shutil.which("sh"), shutil.which("ls")])
def test_real_programs_read_as_pyelftools_reads_them(path: str) -> None:
    with Path(path).open("rb") as file:
        elf = parse_elf(file.fileno())
        reference = ELFFile(file)
        assert elf.machine == reference["e_machine"] or reference["e_machine"].startswith("EM_")
        assert elf.elf_class == reference.elfclass
        assert (elf.byte_order == "little") == reference.little_endian
        expected = [(s.name, s["sh_offset"], s["sh_size"]) for s in reference.iter_sections()]
        assert [(s.name, s.offset, s.size) for s in elf.sections] == expected


@given(data=st.data(), kind=st.sampled_from(KINDS))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=400, deadline=None)
def test_on_changed_files_the_twins_agree(parser: ModuleType, data: st.DataObject, kind: tuple[int, str]) -> None:
    bits, order = kind
    elf = bytearray(make_elf(bits=bits, order=order))
    table = parser.parse_header(bytes(elf[:64]))[5]
    places = st.one_of(st.integers(0, 63), st.integers(table, len(elf) - 1), st.integers(0, len(elf) - 1))
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        elf[at] = value
    end = data.draw(st.sampled_from([len(elf), len(elf) - 1, 64, 63, 52, 51, 16, 15, 4, 3, 0]))
    header = bytes(elf[: min(64, end)])
    assert _answer(parser.parse_header, header) == _answer(pure.parse_header, header)
    part = bytes(elf[table:end])
    for little in (True, False):
        for size in (len(elf), 2**32, 2**63):
            ours = _answer(parser.parse_sections, part, bits, little, size)
            assert ours == _answer(pure.parse_sections, part, bits, little, size)


@given(header=st.binary(max_size=80), magic=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_on_arbitrary_headers_the_twins_agree(parser: ModuleType, header: bytes, magic: bool) -> None:
    header = b"\x7fELF" + header if magic else header
    assert _answer(parser.parse_header, header) == _answer(pure.parse_header, header)


@given(table=st.binary(max_size=300), zeros=st.booleans(), bits=st.sampled_from([32, 64]), little=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_on_arbitrary_tables_the_twins_agree(
    parser: ModuleType, table: bytes, zeros: bool, bits: int, little: bool
) -> None:
    size = 40 if bits == 32 else 64
    table = bytes(size) + table[: len(table) // size * size] if zeros else table
    arguments = table, bits, little, 2**40
    assert _answer(parser.parse_sections, *arguments) == _answer(pure.parse_sections, *arguments)


@given(names=st.binary(max_size=60), offsets=st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 70), max_size=5))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_on_arbitrary_names_the_twins_agree(parser: ModuleType, names: bytes, offsets: list[int]) -> None:
    for table in (names, b"\0" + names + b"\0"):
        assert _answer(parser.section_names, table, offsets) == _answer(pure.section_names, table, offsets)


def test_sections_that_share_one_huge_name_are_refused(parser: ModuleType) -> None:
    names = b"\0" + b"x" * 1_000_000 + b"\0"
    assert len(parser.section_names(names, [1] * 4)) == 4
    with pytest.raises(ArtifactError, match="too long"):
        parser.section_names(names, [1] * 60_000)


def test_an_offset_and_size_that_wrap_around_are_refused(parser: ModuleType) -> None:
    entry = struct.pack("<II4QII2Q", 1, PROGBITS, 0, 0, 2**64 - 8, 16, 0, 0, 1, 0)
    with pytest.raises(ArtifactError, match="not inside"):
        parser.parse_sections(bytes(64) + entry, 64, True, 2**63)


def test_bss_may_claim_bytes_that_the_file_does_not_have(opened: Opened) -> None:
    elf = parse_elf(opened(make_elf(sections=((".text", PROGBITS, b"\xc3"), (".bss", NOBITS, bytes(100_000))))))
    assert [section.name for section in elf.sections] == ["", ".text", ".bss", ".shstrtab"]
    assert not elf.sections[2].is_in_file


def test_a_file_without_a_section_table_has_no_sections(opened: Opened) -> None:
    data = bytearray(make_elf())
    struct.pack_into("<Q", data, 40, 0)
    struct.pack_into("<HH", data, 60, 0, 0)
    assert parse_elf(opened(bytes(data))).sections == ()


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [
        (40, "<Q", 0),
        (40, "<Q", 1),
        (40, "<Q", 63),
        (40, "<Q", 2**63),
        (40, "<Q", 2**64 - 1),
        (58, "<H", 0),
        (58, "<H", 40),
        (58, "<H", 65535),
        (60, "<H", 0),
        (60, "<H", 4),
        (60, "<H", 65535),
        (62, "<H", 0),
        (62, "<H", 1),
        (62, "<H", 3),
        (62, "<H", 65535),
        (52, "<H", 52),
        (20, "<I", 2),
    ],
)
def test_a_header_that_describes_no_table_in_the_file_is_refused(
    opened: Opened, at: int, form: str, value: int
) -> None:
    data = bytearray(make_elf())
    struct.pack_into(form, data, at, value)
    with pytest.raises(ArtifactError):
        parse_elf(opened(bytes(data)))


def test_every_truncation_is_refused(opened: Opened, tmp_path: Path) -> None:
    data = make_elf()
    fd = opened(data)
    assert len(parse_elf(fd).sections) == 3
    for size in range(len(data) - 1, -1, -1):
        os.truncate(tmp_path / "file-0", size)
        with pytest.raises(ArtifactError):
            parse_elf(fd)


def test_more_sections_than_any_program_has_are_refused(opened: Opened) -> None:
    sections = tuple((f".s{number}", PROGBITS, b"") for number in range(4094))
    assert len(parse_elf(opened(make_elf(sections=sections))).sections) == 4096
    with pytest.raises(ArtifactError, match="no usable section table"):
        parse_elf(opened(make_elf(sections=(*sections, (".more", PROGBITS, b"")))))


def test_names_of_any_bytes_are_read(opened: Opened) -> None:
    elf = parse_elf(opened(make_elf(sections=(("\x1b[2Jü", PROGBITS, b"x"),))))
    assert elf.sections[1].name.encode("latin-1").decode() == "\x1b[2Jü"


def test_a_header_alone_is_enough_for_a_machine() -> None:
    elf = parse_elf_header(make_elf(bits=32, machine=ARM, flags=0x5000400)[:64])
    assert (elf.machine, elf.elf_class, elf.byte_order, elf.flags) == (ARM, 32, "little", 0x5000400)
    assert elf.sections == ()
