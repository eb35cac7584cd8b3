"""Parts of files: written where they belong and copied between files, whatever the kernel can do."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypatcher.file_parts import copy_part, write_part

DATA = os.urandom(3_000_000)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[int, int]]:
    (tmp_path / "source").write_bytes(DATA)
    source = os.open(tmp_path / "source", os.O_RDONLY)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    yield source, target
    os.close(source)
    os.close(target)


def refuse(*_: object) -> int:
    raise OSError(errno.EXDEV, "not between these two")


@pytest.mark.parametrize("can", [os.copy_file_range, refuse, lambda *_: 0], ids=["copies", "refuses", "copies nothing"])
def test_a_part_is_copied_to_where_it_belongs(
    can: object, files: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", can)
    source, target = files
    copy_part(source, 1001, target, 77, 2_500_000)
    assert os.pread(target, 1 << 30, 0) == bytes(77) + DATA[1001 : 1001 + 2_500_000]
    assert os.lseek(target, 0, os.SEEK_CUR) == 0


def test_a_source_that_became_shorter_is_an_error(files: tuple[int, int]) -> None:
    source, target = files
    with pytest.raises(OSError, match="shorter"):
        copy_part(source, len(DATA) - 10, target, 0, 11)


def test_parts_are_written_whole_and_in_any_order(files: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    _, target = files
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:2], offset))
    write_part(target, b"world", 6)
    write_part(target, b"hello ", 0)
    assert os.pread(target, 100, 0) == b"hello world"
