"""A zipapp's end record and members, honest and hostile."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pypatcher.artifact.zipapp import looks_like_zipapp, member_heads, read_end
from pypatcher.errors import ArtifactError
from tests.support.programs import make_elf, make_zipapp

Opened = Callable[[bytes], int]
MEMBERS = {"__main__.py": b"print(1)\n" * 50, "empty": b"", "lib/x.so": make_elf(), "big": bytes(100_000)}


def _heads(fd: int, comment: int = 0) -> dict[str, bytes]:
    return dict(member_heads(fd, read_end(fd, comment), 64))


@pytest.mark.parametrize("shebang", [b"", b"#!/usr/bin/python3\n"])
def test_the_first_bytes_of_every_member_are_read(opened: Opened, shebang: bytes) -> None:
    fd = opened(make_zipapp(MEMBERS, shebang=shebang))
    assert looks_like_zipapp(fd)
    assert _heads(fd) == {name: data[:64] for name, data in MEMBERS.items()}


def test_stored_members_are_read_too(opened: Opened) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for name, data in MEMBERS.items():
            file.writestr(name, data)
    assert _heads(opened(archive.getvalue())) == {name: data[:64] for name, data in MEMBERS.items()}


def test_members_written_to_a_pipe_are_read_by_the_directory(opened: Opened) -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = b""

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as file:  # type: ignore[arg-type]
        file.writestr("a", b"x" * 1000)
    assert _heads(opened(pipe.data)) == {"a": b"x" * 64}


@pytest.mark.parametrize("size", [0, 10, 176, 65535])
def test_the_comment_must_have_exactly_the_size_asked_for(opened: Opened, size: int) -> None:
    fd = opened(make_zipapp(MEMBERS, comment=b"c" * size))
    assert read_end(fd, size).comment_size == size
    with pytest.raises(ArtifactError):
        read_end(fd, size + 1)
    if size:
        with pytest.raises(ArtifactError):
            read_end(fd, size - 1)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_python_cannot_import_are_refused(opened: Opened, method: int) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as file:
        file.writestr("a", b"x" * 1000)
    with pytest.raises(ArtifactError, match="cannot import"):
        _heads(opened(archive.getvalue()))


def test_a_member_whose_packed_data_is_junk_is_refused(opened: Opened) -> None:
    data = bytearray(make_zipapp({"a": b"x" * 1000}, shebang=b""))
    data[31:36] = b"\xff" * 5
    with pytest.raises(ArtifactError, match="unpacked"):
        _heads(opened(bytes(data)))


def test_a_member_that_unpacks_to_less_than_it_says_is_refused(opened: Opened) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        file.writestr("a", b"12345")
    data = bytearray(archive.getvalue())
    at = data.index(b"PK\1\2")
    struct.pack_into("<I", data, at + 24, 50)
    with pytest.raises(ArtifactError, match="truncated"):
        _heads(opened(bytes(data)))


@pytest.mark.parametrize(
    ("at", "form", "value"),
    [(4, "<H", 1), (6, "<H", 1), (8, "<H", 9), (10, "<H", 9), (12, "<I", 2**32 - 1), (12, "<I", 9), (16, "<I", 2**31)],
)
def test_an_end_record_that_contradicts_itself_is_refused(opened: Opened, at: int, form: str, value: int) -> None:
    data = bytearray(make_zipapp(MEMBERS))
    struct.pack_into(form, data, len(data) - 22 + at, value)
    with pytest.raises(ArtifactError):
        _heads(opened(bytes(data)))


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_changed_archives_read_or_raise_artifact_errors_only(opened: Opened, data: st.DataObject) -> None:
    archive = bytearray(make_zipapp(MEMBERS))
    directory = archive.index(b"PK\1\2")
    places = st.one_of(st.integers(directory, len(archive) - 1), st.integers(0, len(archive) - 1))
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        archive[at] = value
    del archive[len(archive) - data.draw(st.sampled_from([0, 0, 0, 1, 22, 100])) :]
    try:
        heads = _heads(opened(bytes(archive)))
    except ArtifactError:
        return
    assert all(len(head) <= 64 for head in heads.values())


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\5\6" + bytes(17), b"#!", b"junk" * 100])
def test_other_files_have_no_end_record(opened: Opened, data: bytes) -> None:
    with pytest.raises(ArtifactError):
        read_end(opened(data), 0)
