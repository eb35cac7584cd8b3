"""Helpers that a program forks without exec while a release arrives: what was staged can still be executed."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypatcher.install.files import OsFiles
from pypatcher.install.layout import Entry, Folder


@pytest.fixture
def files(tmp_path: Path) -> Iterator[OsFiles]:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield OsFiles(folder, None)
    os.close(folder)


def test_a_fork_holds_nothing_that_becomes_a_program(files: OsFiles, tmp_path: Path) -> None:
    program = Entry(Folder.PROGRAM, "program")
    descriptor = files.create(program)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, b"forked")
        signal.pause()
    try:
        os.read(reader, 6)
        files.write(descriptor, Path(shutil.which("true") or "").read_bytes())
        files.make_executable(descriptor)
        files.close(descriptor)
        assert subprocess.run([tmp_path / "program"], check=False).returncode == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reader)
        os.close(writer)


def test_a_fork_can_write_files_of_its_own(files: OsFiles, tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        descriptor = files.create(Entry(Folder.PROGRAM, "other"))
        files.write(descriptor, b"written")
        files.close(descriptor)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert (tmp_path / "other").read_bytes() == b"written"
