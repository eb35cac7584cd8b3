"""Every single change of a true release is refused when it is staged: each byte, each length, each place of its region.

No network here: what the node does when a peer sends such a file is in ``test_refusals``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pypatcher.artifact import REGION_SIZE, PatchInfo, sign_file
from pypatcher.errors import ArtifactError, NotNewerError, SignatureMismatchError
from pypatcher.install import Installation, owner_verifies
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import find_target
from tests.support.hostile import region_offset, two_regions
from tests.support.programs import AARCH64, move_region, with_section


class Shelf:
    """An installation of a program of a kilobyte, and what it says to a download."""

    def __init__(self, folder: Path) -> None:
        self.key = KeyPair.from_seed(bytes(32))
        program = folder / "program"
        self.old = self.signed(program, "1.0.0")
        self.installation = Installation(program, owner_verifies(OwnerKey(self.key.public), find_target("x86_64")))
        self.installation.settle("run")

    def signed(self, path: Path, version: str) -> PatchInfo:
        path.write_bytes(with_section(version))
        return sign_file(path, self.key, None, find_target("x86_64"))

    def stage(self, data: bytes, info: PatchInfo) -> PatchInfo:
        partial = self.installation.new_partial()
        partial.write(data)
        return self.installation.stage(partial, info)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


def test_a_flip_of_any_byte_is_refused_and_the_untouched_file_taken(shelf: Shelf, tmp_path: Path) -> None:
    info = shelf.signed(tmp_path / "new", "2.0.0")
    data = (tmp_path / "new").read_bytes()
    for offset in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[offset] ^= flip
            with pytest.raises(ArtifactError):
                shelf.stage(bytes(damaged), info)
    assert shelf.installation.staged_release() is None
    assert list(shelf.installation.layout.state_folder.glob("partial*")) == []
    shelf.stage(data, info)
    assert shelf.installation.staged_release().info == info  # type: ignore[union-attr]


def test_every_length_but_the_right_one_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    info = shelf.signed(tmp_path / "new", "2.0.0")
    data = (tmp_path / "new").read_bytes()
    for length in range(len(data)):
        with pytest.raises(ArtifactError):
            shelf.stage(data[:length], info)
    for extra in (b"\0", b"\n", data, data[-REGION_SIZE:], bytes(REGION_SIZE)):
        with pytest.raises(ArtifactError):
            shelf.stage(data + extra, info)
        with pytest.raises(ArtifactError):
            shelf.stage(extra + data, info)


def test_the_region_at_any_other_place_is_refused(shelf: Shelf, tmp_path: Path) -> None:
    info = shelf.signed(tmp_path / "new", "2.0.0")
    data, offset = (tmp_path / "new").read_bytes(), region_offset(tmp_path / "new")
    for place in range(len(data) - REGION_SIZE + 1):
        moved = move_region(data, offset, place)
        if moved != data:
            with pytest.raises(ArtifactError):
                shelf.stage(moved, info)


def test_older_and_equal_versions_are_refused_whatever_was_announced(shelf: Shelf, tmp_path: Path) -> None:
    for version in ("0.9.9", "1.0.0"):
        info = shelf.signed(tmp_path / "other", version)
        with pytest.raises(NotNewerError):
            shelf.stage((tmp_path / "other").read_bytes(), info)


def test_two_regions_another_key_and_another_target_are_refused(shelf: Shelf, tmp_path: Path) -> None:
    data, info = two_regions(shelf.key, "2.0.0")
    with pytest.raises(ArtifactError):
        shelf.stage(data, info)
    path = tmp_path / "other"
    path.write_bytes(with_section("2.0.0"))
    info = sign_file(path, KeyPair.generate(), None, None)
    with pytest.raises(SignatureMismatchError):
        shelf.stage(path.read_bytes(), info)
    path.write_bytes(with_section("2.0.0", machine=AARCH64))
    info = sign_file(path, shelf.key, None, None)
    with pytest.raises(ArtifactError, match="AArch64"):
        shelf.stage(path.read_bytes(), info)
