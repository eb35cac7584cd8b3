"""The parts of a program by name, and what is packed in them."""

from __future__ import annotations

import marshal
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypatcher.artifact.members import _Marshal, file_members, member_content
from pypatcher.artifact.replace import open_program
from pypatcher.errors import ArtifactError, CodecError
from tests.support.programs import bundle, modules

TABLES = st.recursive(
    st.integers(-(2**31), 2**31 - 1) | st.text(max_size=300), lambda each: st.lists(each) | st.tuples(each, each)
)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_modules_are_named_beside_the_members_of_a_onefile(tmp_path: Path) -> None:
    code = {"json": b"code of json" * 20, "json.decoder": b"code of the decoder" * 20}
    path = write(tmp_path / "app", bundle({"app": b"the app", "PYZ.pyz": modules(code)}))
    with open_program(path) as fd:
        found = {member.name: member for member in file_members(fd)}
        assert list(found) == ["app", "PYZ.pyz/json", "PYZ.pyz/json.decoder", "PYZ.pyz (table)"]
        assert member_content(fd, found["PYZ.pyz/json.decoder"]) == code["json.decoder"]
        assert found["PYZ.pyz/json"].is_code


@pytest.mark.parametrize("damage", ["cut", "far", "kind", "deep"])
def test_a_damaged_archive_of_modules_is_one_member(tmp_path: Path, damage: str) -> None:
    data = {
        "cut": modules({"a": b"x"})[:-3],
        "far": modules({"a": b"x"}, table=[("a", (0, 17, 1 << 30))]),
        "kind": modules({"a": b"x"}, table=[("a", 5.0)]),
        "deep": modules({"a": b"x"}, table=[[[[[[1]]]]]]),
    }[damage]
    path = write(tmp_path / "app", bundle({"PYZ.pyz": data}))
    with open_program(path) as fd:
        assert [member.name for member in file_members(fd)] == ["PYZ.pyz"]


def test_one_archive_of_modules_is_opened(tmp_path: Path) -> None:
    """The attack: a table that names one archive over and over: 95 kB had 300 100 members, 32 MB no end."""
    archive = modules({f"module{number}": b"" for number in range(50)})
    path = write(tmp_path / "app", bundle({f"PYZ{number}.pyz": archive for number in range(50)}))
    with open_program(path) as fd:
        assert len(file_members(fd)) == 50 + 1 + 49


def test_a_member_of_a_zipapp_is_all_that_it_takes_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "app.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "print(1)\n" * 100, zipfile.ZIP_DEFLATED)
        archive.writestr("data", b"as it is")
    with open_program(path) as fd:
        first, second = file_members(fd)
        assert (first.offset, first.offset + first.size) == (0, second.offset)
        assert path.read_bytes()[second.offset + second.size :].startswith(b"PK\1\2")
        assert member_content(fd, first) == b"print(1)\n" * 100
        assert member_content(fd, second) == b"as it is"


@pytest.mark.parametrize(("at", "value"), [(20, 1 << 30), (42, 1 << 30), (42, 20)])
def test_a_zip_file_whose_members_lie_elsewhere_is_damaged(tmp_path: Path, at: int, value: int) -> None:
    """Sizes (20) and offsets (42) of its directory."""
    path = tmp_path / "app.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "print(1)\n" * 100)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\1\2") + at, value)
    with open_program(write(path, bytes(data))) as fd, pytest.raises(ArtifactError, match="damaged"):
        file_members(fd)


def test_a_zip_file_with_a_member_before_its_start_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "app.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "print(1)")
    data = bytearray(path.read_bytes())
    end = data.index(b"PK\5\6")
    struct.pack_into("<I", data, end + 16, struct.unpack_from("<I", data, end + 16)[0] + 500)
    with open_program(write(path, bytes(data))) as fd, pytest.raises(ArtifactError, match="damaged"):
        file_members(fd)


def test_what_does_not_inflate_is_taken_as_it_is(tmp_path: Path) -> None:
    path = write(tmp_path / "app", bundle({"PYZ.pyz": modules({"a": b"x"}, pack=lambda data: b"not zlib" + data)}))
    with open_program(path) as fd:
        assert member_content(fd, file_members(fd)[0]) == b"not zlibx"


@given(TABLES)
def test_a_table_is_read_as_python_reads_it(table: object) -> None:
    try:
        assert _Marshal(marshal.dumps(table)).value() == table
    except CodecError as error:
        assert "table in a table" in str(error)


@given(st.binary(max_size=200))
def test_no_table_fails_in_another_way(data: bytes) -> None:
    try:
        _Marshal(data).value()
    except (CodecError, struct.error, IndexError):
        assert data[:1] != zlib.compress(b"")
