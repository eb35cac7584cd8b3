"""What is remembered of a file's content, and when it must be looked at again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pypatcher.artifact import PatchInfo, VerifiedRelease
from pypatcher.install.examine import EntryKind, Examiner
from pypatcher.install.file_stat import FileStat
from pypatcher.install.files import OsFiles
from pypatcher.install.layout import Layout
from tests.support.text_programs import program, verify_program

DAY = 86_400 * 10**9


class Desk:
    """An examiner whose clocks a test sets, the file that it looks at, and how often that was hashed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.layout = Layout(path)
        self.hashed = 0
        self.wall = 0
        """Nanoseconds."""
        self.monotonic = 0.0
        self.frozen: FileStat | None = None
        """What every look at the file's times says, as if a write was in the same tick as the last one."""
        self.examiner = Examiner(self._verify, lambda: self.wall, lambda: self.monotonic)

    def _verify(self, fd: int, expect: PatchInfo | None = None, /) -> VerifiedRelease:
        self.hashed += 1
        return verify_program(fd, expect)

    def version(self) -> str:
        with _files(self) as files:
            found = self.examiner.examine(files, self.layout.target)
        assert found.kind is EntryKind.GOOD
        return str(found.id and found.id.version)

    def write(self, version: str) -> None:
        """In place, as scp writes."""
        with self.path.open("r+b") as file:
            file.write(program(version))

    def set_clock(self, offset: int) -> None:
        """So many nanoseconds after the file's last change."""
        self.wall = self.path.stat().st_ctime_ns + offset

    def freeze(self) -> None:
        with _files(self) as files:
            self.frozen = files.stat(self.layout.target)


class _Files(OsFiles):
    def __init__(self, folder: int, desk: Desk) -> None:
        super().__init__(folder, None)
        self._desk = desk

    def fstat(self, fd: int) -> FileStat:
        return self._desk.frozen or super().fstat(fd)


@contextmanager
def _files(desk: Desk) -> Iterator[_Files]:
    folder = os.open(desk.path.parent, os.O_RDONLY)
    try:
        yield _Files(folder, desk)
    finally:
        os.close(folder)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    path = tmp_path / "app"
    path.write_bytes(program("1.0.0"))
    return Desk(path)


def look(desk: Desk, times: int) -> int:
    """Look once a second; returns how often the file was hashed."""
    before = desk.hashed
    for _ in range(times):
        desk.version()
        desk.monotonic += 1
    return desk.hashed - before


def test_a_program_that_is_old_by_the_clock_is_hashed_once(desk: Desk) -> None:
    desk.set_clock(3 * 10**9)
    assert look(desk, 20) == 1


@pytest.mark.parametrize("offset", [0, -DAY], ids=["written just now", "a clock that is a day behind"])
def test_a_program_as_new_as_the_clock_is_hashed_for_three_seconds(desk: Desk, offset: int) -> None:
    desk.set_clock(offset)
    assert look(desk, 20) == 4
    assert look(desk, 20) == 0


@pytest.mark.parametrize("offset", [0, -DAY], ids=["the clock is right", "it is a day behind"])
def test_a_write_within_the_same_clock_tick_is_seen_however_late(desk: Desk, offset: int) -> None:
    desk.freeze()
    desk.set_clock(offset)
    assert desk.version() == "1.0.0"
    desk.monotonic += 1
    assert desk.version() == "1.0.0"
    desk.write("2.0.0")
    desk.monotonic += 1000
    assert desk.version() == "2.0.0"
    assert desk.version() == "2.0.0"
    assert desk.hashed == 3


@pytest.mark.parametrize("offset", [3 * 10**9, -DAY], ids=["the clock is right", "it is a day behind"])
def test_a_change_that_shows_is_hashed_anew_and_waited_for_again(desk: Desk, offset: int) -> None:
    desk.set_clock(offset)
    look(desk, 20)
    desk.write("2.0.0")
    os.utime(desk.path, ns=(desk.wall, desk.wall + DAY))
    assert desk.version() == "2.0.0"
    desk.freeze()
    desk.write("3.0.0")
    desk.monotonic += 1
    assert desk.version() == "3.0.0"


def test_a_program_renamed_while_it_is_read_is_looked_at_anew(desk: Desk) -> None:
    staged, previous = desk.path.with_name("staged"), desk.path.with_name("previous")
    staged.write_bytes(program("2.0.0"))
    steps = iter([lambda: previous.hardlink_to(desk.path), lambda: staged.rename(desk.path), previous.unlink])

    def verify(fd: int, expect: PatchInfo | None = None, /) -> VerifiedRelease:
        """An activation goes on while the program is hashed for a run beside it, which has no lock."""
        next(steps, lambda: None)()
        return verify_program(fd, expect)

    with _files(desk) as files:
        found = Examiner(verify).examine(files, desk.layout.target)
    assert (found.kind, str(found.id and found.id.version)) == (EntryKind.GOOD, "2.0.0")


def test_a_file_that_changes_while_it_is_read_is_no_program(desk: Desk) -> None:
    def verify(fd: int, expect: PatchInfo | None = None, /) -> VerifiedRelease:
        os.utime(desk.path, ns=(1, 1))
        return verify_program(fd, expect)

    with _files(desk) as files:
        found = Examiner(verify).examine(files, desk.layout.target)
    assert (found.kind, found.reason) == (EntryKind.INVALID, "it changed while it was read")
