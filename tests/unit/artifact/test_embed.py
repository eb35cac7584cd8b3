"""Giving a finished program its region, for every kind of ELF and for zipapps."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from pypatcher.artifact.embed import embed_region
from pypatcher.artifact.locate import Carrier, locate_region
from pypatcher.artifact.region import REGION_SIZE, unpack_region
from pypatcher.artifact.sections import parse_elf
from pypatcher.artifact.sign import sign_file
from pypatcher.artifact.verify import verify_release
from pypatcher.errors import ArtifactError, PatcherError, RegionError, VersionError
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.version import Version
from tests.support.programs import PROGBITS, make_elf, make_zipapp, with_comment, with_section, with_tail

VERSION = Version(1, 4, 0)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program in a folder of its own."""
    path = tmp_path / "folder" / "app"
    path.parent.mkdir()
    path.write_bytes(make_elf())
    path.chmod(0o755)
    return path


def _verifies(program: Path, key: KeyPair) -> None:
    sign_file(program, key, None, None, any_machine=True)
    with program.open("rb") as file:
        assert verify_release(file.fileno(), OwnerKey(key.public), None).info.version == VERSION


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("machine", [8, 20, 40, 62, 183, 243])
def test_any_architecture_gets_a_real_section(program: Path, key: KeyPair, bits: int, order: str, machine: int) -> None:
    data = make_elf(bits=bits, order=order, machine=machine)
    program.write_bytes(data)
    located = embed_region(program, VERSION, any_machine=True)
    assert located.carrier is Carrier.SECTION
    grown = program.read_bytes()
    header_size = 64 if bits == 64 else 52
    assert grown[header_size : len(data)] == data[header_size:]
    assert unpack_region(grown[located.offset : located.offset + REGION_SIZE]).version == VERSION
    elf = ELFFile(io.BytesIO(grown))
    section = elf.get_section_by_name(".embedded_signature")
    assert (section["sh_offset"], section["sh_size"], section["sh_flags"]) == (located.offset, REGION_SIZE, 0)
    old = {s.name: s.data() for s in ELFFile(io.BytesIO(data)).iter_sections() if s.name != ".shstrtab"}
    assert {s.name: s.data() for s in elf.iter_sections() if s.name in old} == old
    _verifies(program, key)


@pytest.mark.parametrize("carrier", ["auto", "section", "tail"])
def test_a_real_program_runs_as_before(program: Path, key: KeyPair, carrier: str) -> None:
    shutil.copy(shutil.which("true") or "/bin/true", program)
    embed_region(program, VERSION, carrier=carrier)
    _verifies(program, key)
    assert program.stat().st_mode & 0o777 == 0o755
    run = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert "true" in run.stdout


def test_a_onefile_app_gets_only_176_bytes_at_its_end(program: Path, key: KeyPair) -> None:
    data = make_elf(sections=(("pydata", PROGBITS, b"archive"),))
    program.write_bytes(data)
    assert embed_region(program, VERSION).carrier is Carrier.TAIL
    assert program.read_bytes()[:-REGION_SIZE] == data
    _verifies(program, key)


def test_a_program_without_a_section_table_gets_its_region_at_the_end(program: Path, key: KeyPair) -> None:
    data = bytearray(make_elf())
    struct.pack_into("<Q", data, 40, 0)
    struct.pack_into("<HH", data, 60, 0, 0)
    (loaded,) = struct.unpack_from("<Q", data, 64 + data[64:].index(struct.pack("<II", 1, 5)) + 32)
    program.write_bytes(data[:loaded])  # as sstrip cuts it
    with pytest.raises(ArtifactError, match="--carrier tail"):
        embed_region(program, VERSION, carrier="section")
    assert embed_region(program, VERSION).carrier is Carrier.TAIL
    _verifies(program, key)


def test_a_zipapp_gets_its_comment_and_runs(program: Path, key: KeyPair) -> None:
    data = make_zipapp({"__main__.py": b"import helper\nprint(helper.word)\n", "helper.py": b"word = 'works'\n"})
    program.write_bytes(data)
    assert embed_region(program, VERSION).carrier is Carrier.ZIP_COMMENT
    _verifies(program, key)
    assert len(program.read_bytes()) == len(data) + REGION_SIZE
    assert zipfile.ZipFile(program).testzip() is None
    run = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True)
    assert run.stdout == "works\n"


@pytest.mark.parametrize(
    ("data", "carrier", "error", "match"),
    [
        (with_section(), "auto", RegionError, "already"),
        (with_tail(), "auto", RegionError, "already"),
        (with_comment(), "auto", RegionError, "already"),
        (make_elf(sections=((".embsig", PROGBITS, bytes(176)),)), "auto", RegionError, "holds no region"),
        (make_elf(kind=1), "auto", ArtifactError, "no program"),
        (make_elf()[:-1], "auto", ArtifactError, "not inside"),
        (make_elf(), "comment", ArtifactError, "no zip comment"),
        (make_zipapp(), "tail", ArtifactError, "comment only"),
        (make_zipapp(comment=b"mine"), "auto", ArtifactError, "somebody else"),
        (b"#!/bin/sh\n", "auto", ArtifactError, "does not end as a zip"),
        (b"text", "auto", ArtifactError, "neither"),
    ],
)
def test_unfit_files_are_refused_and_left_alone(
    program: Path, data: bytes, carrier: str, error: type[PatcherError], match: str
) -> None:
    program.write_bytes(data)
    inode = program.stat().st_ino
    with pytest.raises(error, match=match):
        embed_region(program, VERSION, carrier=carrier)
    assert program.read_bytes() == data
    assert program.stat().st_ino == inode
    assert [path.name for path in program.parent.iterdir()] == ["app"]


def test_a_program_with_as_many_sections_as_we_read_gets_no_more(program: Path) -> None:
    program.write_bytes(make_elf(sections=tuple((f".s{number}", PROGBITS, b"") for number in range(4094))))
    with pytest.raises(ArtifactError, match="too many sections"):
        embed_region(program, VERSION, carrier="section")


def test_a_version_that_cannot_be_announced_is_refused(program: Path) -> None:
    with pytest.raises(VersionError):
        embed_region(program, Version(9999, 0, 0))


def test_the_new_tables_parse_with_both_names(program: Path) -> None:
    embed_region(program, VERSION)
    with program.open("rb") as file:
        names = [section.name for section in parse_elf(file.fileno()).sections]
        assert names == ["", ".text", ".shstrtab", ".embedded_signature"]
        assert locate_region(file.fileno()).offset == program.stat().st_size - REGION_SIZE
