"""The one strict rule for a region's place."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from pypatcher.artifact.locate import Carrier, Located, locate_region, scan_regions
from pypatcher.artifact.region import REGION_SIZE, marker, template
from pypatcher.errors import NoRegionError, RegionError
from pypatcher.version import Version
from tests.support.programs import (
    NOBITS,
    PROGBITS,
    VECTORS,
    make_elf,
    make_zipapp,
    move_region,
    vector_file,
    with_comment,
    with_section,
    with_tail,
)

Opened = Callable[[bytes], int]
REGION = template(Version(1, 2, 3))


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("name", [".embedded_signature", ".embsig"])
def test_a_section_of_either_name_is_the_region(opened: Opened, bits: int, order: str, name: str) -> None:
    data = with_section(name=name, bits=bits, order=order)
    assert locate_region(opened(data)) == Located(Carrier.SECTION, data.index(marker()))


def test_the_last_bytes_of_an_elf_file_are_the_region(opened: Opened) -> None:
    data = with_tail()
    assert locate_region(opened(data)) == Located(Carrier.TAIL, len(data) - REGION_SIZE)


def test_a_payload_may_stand_between_the_tables_and_the_tail(opened: Opened) -> None:
    data = make_elf() + b"payload" * 1000 + REGION
    assert locate_region(opened(data)) == Located(Carrier.TAIL, len(data) - REGION_SIZE)


def test_a_zip_comment_is_the_region(opened: Opened) -> None:
    data = with_comment()
    assert locate_region(opened(data)) == Located(Carrier.ZIP_COMMENT, len(data) - REGION_SIZE)


@pytest.mark.parametrize("data", [b"", b"\x7f", make_elf(), make_zipapp(), make_zipapp(comment=b"x" * 176), b"x" * 999])
def test_files_without_a_region_say_so(opened: Opened, data: bytes) -> None:
    with pytest.raises(NoRegionError):
        locate_region(opened(data))


@pytest.mark.parametrize("data", [with_section(), with_tail(), with_comment()], ids=["section", "tail", "comment"])
def test_a_region_moved_anywhere_else_is_refused(opened: Opened, data: bytes) -> None:
    home = data.index(marker())
    step = 1 if len(data) < 1200 else 3
    for place in range(0, len(data) - REGION_SIZE + 1, step):
        fd = opened(move_region(data, home, place))
        if place == home:
            assert locate_region(fd).offset == home
        else:
            with pytest.raises((RegionError, NoRegionError)):
                locate_region(fd)
    assert scan_regions(fd) == [place]


def test_a_broken_table_is_refused_even_with_a_region_at_the_end(opened: Opened) -> None:
    data = bytearray(with_tail())
    struct.pack_into("<H", data, 62, 9)
    with pytest.raises(RegionError, match="cannot be told"):
        locate_region(opened(bytes(data)))


def test_a_tail_inside_the_tables_or_a_section_is_refused(opened: Opened) -> None:
    for data in (make_elf()[:-REGION_SIZE] + REGION, make_elf(sections=((".text", PROGBITS, b"x"),)) + REGION):
        grown = bytearray(data)
        table = struct.unpack_from("<Q", grown, 40)[0]
        struct.pack_into("<Q", grown, table + 64 + 32, len(grown) - 64)
        with pytest.raises((RegionError, NoRegionError)):
            locate_region(opened(bytes(grown)))


@pytest.mark.parametrize("size", [0, 175, 177, 352])
def test_a_section_of_another_size_is_refused(opened: Opened, size: int) -> None:
    section = (".embedded_signature", PROGBITS, (REGION * 2)[:size])
    with pytest.raises(RegionError, match="once in the whole program"):
        locate_region(opened(make_elf(sections=(section,)) + REGION))


def test_a_section_without_bytes_in_the_file_is_refused(opened: Opened) -> None:
    with pytest.raises(RegionError):
        locate_region(opened(make_elf(sections=((".embedded_signature", NOBITS, bytes(176)),)) + REGION))


@pytest.mark.parametrize("second", [".embedded_signature", ".embsig"])
def test_two_sections_are_refused(opened: Opened, second: str) -> None:
    sections = (".embedded_signature", PROGBITS, REGION), (second, PROGBITS, REGION)
    with pytest.raises(RegionError, match="two signature sections"):
        locate_region(opened(make_elf(sections=sections)))


def test_a_foreign_section_is_refused_though_the_tail_is_a_region(opened: Opened) -> None:
    data = make_elf(sections=((".embedded_signature", PROGBITS, bytes(176)),)) + REGION
    with pytest.raises(RegionError, match="holds no region"):
        locate_region(opened(data))


@pytest.mark.parametrize(
    "vector", VECTORS["files"], ids=lambda vector: f"{vector['version']}-{vector['region_offset']}"
)
def test_scanning_finds_the_region_of_any_file(opened: Opened, vector: dict[str, int]) -> None:
    assert scan_regions(opened(vector_file(vector))) == [vector["region_offset"]]


def test_scanning_counts_regions_and_not_lone_markers(opened: Opened) -> None:
    assert scan_regions(opened(b"x" + marker() + bytes(119) + marker())) == []
    assert scan_regions(opened(b"x" + REGION + marker() + REGION)) == [1, 205]
