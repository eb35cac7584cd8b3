"""What every command of the desk asks first: what a file is, and where it can go."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pypatcher.artifact.embed import embed_region
from pypatcher.artifact.program import ProgramFile, examine_program
from pypatcher.artifact.sections import parse_elf
from pypatcher.errors import ArtifactError, RegionError, WrongTargetError
from pypatcher.targets import find_target
from pypatcher.version import Version
from tests.support.programs import AARCH64, ARM, make_elf, make_zipapp, with_section, with_tail

PLAIN = "int main(void) { return 0; }\n"


def examine(path: Path) -> ProgramFile:
    with path.open("rb") as file:
        return examine_program(file.fileno())


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Compile a program with gcc."""

    def compile_it(*options: str, name: str = "app") -> Path:
        (tmp_path / "app.c").write_text(PLAIN)
        subprocess.run(["gcc", *options, "-o", tmp_path / name, tmp_path / "app.c"], check=True)
        return tmp_path / name

    return compile_it


@pytest.mark.parametrize("options", [[], ["-no-pie"], ["-static"], ["-static-pie"], ["-s"], ["-g"]])
def test_programs_of_every_link_can_start(build: Callable[..., Path], options: list[str]) -> None:
    program = examine(build(*options))
    assert program.fits == {os.uname().machine}
    assert program.located is None
    assert program.bytes_behind == 0


def test_a_split_debug_file_is_no_program(build: Callable[..., Path], tmp_path: Path) -> None:
    subprocess.run(["objcopy", "--only-keep-debug", build("-g"), tmp_path / "app.debug"], check=True)
    with pytest.raises(ArtifactError, match="debug file"):
        examine(tmp_path / "app.debug")


def test_a_shared_library_is_no_program(build: Callable[..., Path]) -> None:
    with pytest.raises(ArtifactError, match="shared library"):
        examine(build("-shared", "-fPIC"))


def test_a_truncated_program_is_told(build: Callable[..., Path], tmp_path: Path) -> None:
    data = bytearray(build().read_bytes())
    data[40:48] = bytes(8)
    data[58:64] = bytes(6)  # without its section table only the segments tell
    (tmp_path / "cut").write_bytes(data[:5000])
    with pytest.raises(ArtifactError, match="truncated"):
        examine(tmp_path / "cut")


@pytest.mark.parametrize("size", [2 << 40, (1 << 32) + 1])
def test_the_size_comes_before_anything_is_read(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse"
    path.write_bytes(make_elf())
    os.truncate(path, size)
    monkeypatch.setattr(os, "pread", None)
    with pytest.raises(ArtifactError, match="at most"):
        examine(path)


def test_embed_never_makes_a_file_that_is_too_large(tmp_path: Path) -> None:
    path = tmp_path / "app"
    path.write_bytes(make_elf())
    os.truncate(path, (1 << 32) - 100)
    with pytest.raises(ArtifactError, match="at most"):
        embed_region(path, Version(1, 0, 0), carrier="tail")
    assert path.stat().st_size == (1 << 32) - 100


@pytest.mark.parametrize(
    "data", [with_tail() + b"appended later", with_section()[:64] + with_section()[64:] + with_tail()[-176:]]
)
def test_a_region_where_no_device_looks_is_said_to_be_one(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "app").write_bytes(data)
    with pytest.raises(RegionError, match=r"where no device takes it|there must be exactly one") as caught:
        examine(tmp_path / "app")
    assert "pypatcher" not in str(caught.value)  # it sends nobody to another command


def test_a_file_for_several_machines_is_for_none(tmp_path: Path) -> None:
    members = {"__main__.py": b"", "lib/a.so": make_elf(machine=ARM, bits=32), "lib/b.so": make_elf()}
    (tmp_path / "app").write_bytes(make_zipapp(members))
    program = examine(tmp_path / "app")
    for any_machine in (False, True):
        with pytest.raises(WrongTargetError, match="not for target x86_64"):
            program.check_for(find_target("x86_64"), any_machine=any_machine)
    with pytest.raises(WrongTargetError, match="one file for each target"):
        program.check_for(None)
    program.check_for(None, any_machine=True)


def test_a_32_bit_x86_program_is_for_no_device(tmp_path: Path) -> None:
    (tmp_path / "app").write_bytes(make_elf(machine=3, bits=32))
    with pytest.raises(WrongTargetError, match="built for x86, 32 bit"):
        examine(tmp_path / "app").check_for(None)
    (tmp_path / "app").write_bytes(make_elf(machine=AARCH64))
    examine(tmp_path / "app").check_for(None)


def test_a_comment_of_somebody_elses_is_told_from_damage(tmp_path: Path) -> None:
    (tmp_path / "app").write_bytes(make_zipapp(comment=b"built by others"))
    with pytest.raises(ArtifactError, match="15 bytes of somebody else's"):
        examine(tmp_path / "app")


def test_a_zipapp_with_a_directory_of_more_than_8_mebibytes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "app"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "print('runs')")
        for number in range(30_000):
            archive.writestr(f"{'a-long-folder-of-a-package/' * 9}{number}.py", b"")
    program = examine(path)
    assert program.zip_end is not None
    assert program.zip_end.directory_size > 8 << 20
    assert embed_region(path, Version(1, 0, 0)).carrier.value == "comment"


def test_a_name_in_the_null_entry_of_a_section_table_is_no_damage(build: Callable[..., Path], tmp_path: Path) -> None:
    data = bytearray(shutil.copy(build(), tmp_path / "sea").read_bytes())
    table = int.from_bytes(data[40:48], "little")
    data[table : table + 4] = (9).to_bytes(4, "little")  # as postject leaves it
    (tmp_path / "sea").write_bytes(data)
    with (tmp_path / "sea").open("rb") as file:
        assert parse_elf(file.fileno()).sections[0].name == ""
    assert embed_region(tmp_path / "sea", Version(1, 0, 0)).carrier.value == "section"
    subprocess.run([tmp_path / "sea"], check=True)
