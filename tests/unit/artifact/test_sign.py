"""Signing: atomic, idempotent, only the 176 bytes changed, and every refusal leaves the file as it was."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pypatcher.artifact.region import REGION_SIZE, marker, pack_region, template
from pypatcher.artifact.sign import sign_file
from pypatcher.artifact.verify import verify_release
from pypatcher.errors import (
    ArtifactError,
    CannotReplaceError,
    NoRegionError,
    PatcherError,
    RegionError,
    VersionError,
    WrongTargetError,
)
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import find_target
from pypatcher.version import Version
from tests.support.programs import PROGBITS, make_elf, with_comment, with_section, with_tail


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An unsigned program in a folder of its own."""
    path = tmp_path / "folder" / "app"
    path.parent.mkdir()
    path.write_bytes(with_section())
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("make", [with_section, with_tail, with_comment])
def test_only_the_region_changes(program: Path, key: KeyPair, make: object) -> None:
    data = make()  # type: ignore[operator]
    program.write_bytes(data)
    info = sign_file(program, key, None, find_target("x86_64"))
    signed, at = program.read_bytes(), data.index(marker())
    assert signed[:at] + signed[at + REGION_SIZE :] == data[:at] + data[at + REGION_SIZE :]
    assert signed[at : at + REGION_SIZE] == pack_region(info)
    with program.open("rb") as file:
        assert verify_release(file.fileno(), OwnerKey(key.public), None).info == info


def test_signing_twice_changes_nothing_not_even_the_inode(program: Path, key: KeyPair) -> None:
    first = sign_file(program, key, None, None)
    before, data = program.stat(), program.read_bytes()
    assert sign_file(program, key, None, None) == first
    assert (program.stat().st_ino, program.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert program.read_bytes() == data


def test_the_version_given_wins_over_the_one_built_in(program: Path, key: KeyPair) -> None:
    assert sign_file(program, key, None, None).version == Version(1, 2, 3)
    assert sign_file(program, key, Version(2, 0, 0), None).version == Version(2, 0, 0)
    assert sign_file(program, key, None, None).version == Version(2, 0, 0)


def test_mode_attributes_and_links_are_kept(program: Path, key: KeyPair) -> None:
    program.chmod(0o4750)
    attributes = {"user.note": b"kept"}
    try:
        os.setxattr(program, "user.note", b"kept")
    except OSError:
        attributes = {}
    link = program.with_name("link")
    link.symlink_to("app")
    sign_file(link, key, None, None)
    assert link.is_symlink()
    assert stat.S_IMODE(program.stat().st_mode) == 0o4750
    assert {name: os.getxattr(program, name) for name in os.listxattr(program)} == attributes
    assert sorted(path.name for path in program.parent.iterdir()) == ["app", "link"]


def test_the_owner_is_kept(program: Path, key: KeyPair) -> None:
    if os.geteuid() == 0:
        os.chown(program, 1234, 5678)
    before = program.stat()
    sign_file(program, key, None, None)
    assert (program.stat().st_uid, program.stat().st_gid) == (before.st_uid, before.st_gid)


def _refused(program: Path, error: type[PatcherError], match: str, *arguments: object) -> None:
    before, data = program.stat(), program.read_bytes()
    with pytest.raises(error, match=match):
        sign_file(program, *arguments)  # type: ignore[arg-type]
    assert (program.stat().st_ino, program.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert program.read_bytes() == data
    assert [path.name for path in program.parent.iterdir()] == ["app"]


@pytest.mark.parametrize(
    ("data", "error", "match"),
    [
        (b"", NoRegionError, "neither"),
        (make_elf(), NoRegionError, "embed"),
        (with_section() + template(Version(1, 0, 0)), RegionError, "exactly one"),
        (with_tail() + template(Version(1, 0, 0)), RegionError, "exactly one"),
        (with_section()[:-1], RegionError, "cannot be told"),
        (with_tail()[:-1], NoRegionError, "embed"),
        (with_section().replace(marker(), bytes(28), 1), RegionError, "holds no region"),
    ],
    ids=["empty", "no region", "two", "two at the end", "truncated section", "truncated tail", "damaged"],
)
def test_unfit_files_are_refused(
    program: Path, key: KeyPair, data: bytes, error: type[PatcherError], match: str
) -> None:
    program.write_bytes(data)
    _refused(program, error, match, key, Version(1, 0, 0), None)


@pytest.mark.parametrize("version", [Version(8192, 0, 0), Version(0, 16384, 0), Version(0, 0, 16384)])
def test_versions_that_cannot_be_announced_are_refused(program: Path, key: KeyPair, version: Version) -> None:
    _refused(program, VersionError, "at most", key, version, None)


def test_a_built_in_version_that_cannot_be_announced_is_refused(program: Path, key: KeyPair) -> None:
    program.write_bytes(with_section("9999.0.0"))
    _refused(program, VersionError, "at most", key, None, None)


@pytest.mark.parametrize(("field", "match"), [(bytes(16), "--version"), (b"1.2".ljust(16, b"\0"), "no usable version")])
def test_a_region_without_a_version_needs_one(program: Path, key: KeyPair, field: bytes, match: str) -> None:
    region = bytearray(template(Version(1, 0, 0)))
    region[132:148] = field
    program.write_bytes(make_elf(sections=((".embedded_signature", PROGBITS, bytes(region)),)))
    _refused(program, VersionError, match, key, None, None)
    assert sign_file(program, key, Version(1, 0, 0), None).version == Version(1, 0, 0)


def test_a_file_for_another_target_is_refused(program: Path, key: KeyPair) -> None:
    _refused(program, WrongTargetError, "armv7", key, None, find_target("armv7"))


@pytest.mark.parametrize("name", ["nothing", "folder", "pipe"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, key: KeyPair, name: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match=name):
        sign_file(tmp_path / name, key, None, None)


def test_a_folder_that_cannot_be_written_is_told(program: Path, key: KeyPair, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    before = program.read_bytes()
    with pytest.raises(CannotReplaceError, match="No space left"):
        sign_file(program, key, None, None)
    assert program.read_bytes() == before
    assert [path.name for path in program.parent.iterdir()] == ["app"]
