"""What C code forks while a release arrives, and asks nobody: what was staged can still be executed."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pypatcher.install import sealing
from pypatcher.install.files import OsFiles
from pypatcher.install.layout import Entry, Folder

PROGRAM = Entry(Folder.PROGRAM, "program")


@pytest.fixture
def files(tmp_path: Path) -> Iterator[OsFiles]:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield OsFiles(folder, None)
    os.close(folder)


@pytest.fixture
def fork() -> Iterator[None]:
    """Forks as C code does, such that Python knows nothing of it."""
    libc = ctypes.PyDLL(None)
    children: list[int] = []

    def make() -> None:
        child = libc.fork()
        if child == 0:
            libc.pause()
            libc._exit(0)
        children.append(child)

    yield make
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def create(files: OsFiles, content: bytes) -> int:
    descriptor = files.create(PROGRAM)
    files.write(descriptor, content)
    files.make_executable(descriptor)
    return descriptor


def test_what_a_child_of_c_code_holds_becomes_a_program_too(files: OsFiles, tmp_path: Path, fork) -> None:
    content = Path(shutil.which("true") or "").read_bytes()
    descriptor = create(files, content)
    fork()
    files.seal(descriptor, PROGRAM)
    files.make_executable(descriptor)
    assert files.read(descriptor, len(content) + 1) == content
    files.close(descriptor)
    assert subprocess.run([tmp_path / "program"], check=False).returncode == 0


def test_what_nobody_holds_stays_the_same_file(files: OsFiles, tmp_path: Path, fork) -> None:
    fork()
    descriptor = create(files, b"content")
    before = (tmp_path / "program").stat().st_ino
    files.seal(descriptor, PROGRAM)
    assert (tmp_path / "program").stat().st_ino == before
    assert fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    assert not os.get_inheritable(descriptor)
    files.close(descriptor)


def test_a_filesystem_without_leases_gets_a_copy(
    files: OsFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptor = create(files, b"content")
    with (tmp_path / "program").open("rb") as before:
        monkeypatch.setattr(sealing.fcntl, "fcntl", _without_leases)
        files.seal(descriptor, PROGRAM)
        assert not os.path.sameopenfile(before.fileno(), descriptor)
    assert files.read(descriptor, 99) == b"content"
    files.close(descriptor)


def _without_leases(*_: object) -> int:
    raise OSError(22, "Invalid argument")


def test_a_copy_that_fails_says_why(files: OsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = create(files, b"content")
    monkeypatch.setattr(sealing.fcntl, "fcntl", _without_leases)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(OsFiles, "create", full)
    with pytest.raises(OSError, match="No space left"):
        files.seal(descriptor, PROGRAM)
    files.close(descriptor)
