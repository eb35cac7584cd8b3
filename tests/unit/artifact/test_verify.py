"""Every refusal that a device makes by a file alone."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pypatcher.artifact.hashing import hash_both
from pypatcher.artifact.locate import locate_region
from pypatcher.artifact.patch import PatchInfo, make_info
from pypatcher.artifact.region import REGION_SIZE, marker
from pypatcher.artifact.sign import sign_file
from pypatcher.artifact.verify import check_release, read_release, verify_content, verify_release
from pypatcher.errors import (
    ArtifactError,
    ContentMismatchError,
    NoRegionError,
    RegionError,
    SignatureMismatchError,
    WrongTargetError,
)
from pypatcher.keys import KeyPair, OwnerKey
from pypatcher.targets import find_target
from pypatcher.version import Version
from tests.support.programs import (
    AARCH64,
    VECTORS,
    make_elf,
    move_region,
    vector_file,
    with_comment,
    with_section,
    with_tail,
)

Opened = Callable[[bytes], int]
KEY = KeyPair.from_seed(bytes(range(32)))
OWNER = OwnerKey(KEY.public)


def _signed(folder: Path, data: bytes) -> bytes:
    path = folder / "signed"
    path.write_bytes(data)
    sign_file(path, KEY, None, None)
    return path.read_bytes()


@pytest.fixture(params=[with_section, with_tail, with_comment], ids=["section", "tail", "comment"])
def signed(request: pytest.FixtureRequest, tmp_path: Path) -> bytes:
    """A signed file of each carrier."""
    return _signed(tmp_path, request.param())


def test_a_signed_file_verifies(opened: Opened, signed: bytes) -> None:
    fd = opened(signed)
    verified = verify_release(fd, OWNER, find_target("x86_64"))
    assert verified.info.version == Version(1, 2, 3)
    assert verified.located == locate_region(fd)
    assert verified.sha512 == hashlib.sha512(signed).digest()
    assert read_release(fd).info == verified.info
    assert read_release(fd).file_size == len(signed)
    assert verify_release(fd, OWNER, None, expect=verified.info) == verified
    assert check_release(fd, OWNER, find_target("x86_64"), expect=verified.info) == read_release(fd)


def test_a_flipped_byte_anywhere_is_refused(opened: Opened, signed: bytes, tmp_path: Path) -> None:
    fd = opened(signed)
    verify_release(fd, OWNER, None)
    with (tmp_path / "file-0").open("r+b", buffering=0) as file:
        for at in range(len(signed)):
            file.seek(at)
            file.write(bytes([signed[at] ^ 0x01]))
            for check in (check_release, verify_release):
                with pytest.raises(ArtifactError):
                    check(fd, OWNER, None)
            file.seek(at)
            file.write(signed[at : at + 1])
    verify_release(fd, OWNER, None)


def test_every_truncation_is_refused(opened: Opened, signed: bytes, tmp_path: Path) -> None:
    fd = opened(signed)
    for size in range(len(signed) - 1, -1, -7):
        os.truncate(tmp_path / "file-0", size)
        with pytest.raises(ArtifactError):
            verify_release(fd, OWNER, None)


@pytest.mark.parametrize("extra", [1, 100, 176, 5000])
def test_a_longer_file_is_refused(opened: Opened, signed: bytes, extra: int) -> None:
    with pytest.raises(ArtifactError):
        verify_release(opened(signed + bytes(extra)), OWNER, None)


def test_the_length_of_a_file_with_a_section_is_told(opened: Opened, tmp_path: Path) -> None:
    data = _signed(tmp_path, with_section())
    with pytest.raises(ContentMismatchError, match="too long"):
        verify_release(opened(data + b"x"), OWNER, None)


def test_a_region_moved_anywhere_else_is_refused(opened: Opened, signed: bytes) -> None:
    home = signed.index(marker())
    for place in range(0, len(signed) - REGION_SIZE + 1, 3):
        moved = move_region(signed, home, place)
        if moved == signed:
            continue
        with pytest.raises((NoRegionError, RegionError)):
            verify_release(opened(moved), OWNER, None)
        # Hash, size and signature alone would have let it pass.
        verify_content(opened(moved), read_release(opened(signed)).info, place, OWNER)


def test_another_owner_s_file_is_refused(opened: Opened, signed: bytes) -> None:
    with pytest.raises(SignatureMismatchError):
        verify_release(opened(signed), OwnerKey(KeyPair.from_seed(bytes(32)).public), None)


def test_an_unsigned_file_is_refused(opened: Opened) -> None:
    with pytest.raises(ContentMismatchError):
        verify_release(opened(with_section()), OWNER, None)


def test_another_target_s_file_is_refused(opened: Opened, tmp_path: Path) -> None:
    fd = opened(_signed(tmp_path, with_section(machine=AARCH64)))
    verify_release(fd, OWNER, None)
    with pytest.raises(WrongTargetError, match="AArch64"):
        verify_release(fd, OWNER, find_target("x86_64"))


def test_a_file_that_is_not_what_was_announced_is_refused(opened: Opened, signed: bytes) -> None:
    info = read_release(opened(signed)).info
    other = make_info(Version(1, 2, 4), info.hash, info.size, KEY)
    with pytest.raises(ContentMismatchError, match="announced"):
        verify_release(opened(signed), OWNER, None, expect=other)


def test_content_is_refused_before_the_signature_is_looked_at(opened: Opened, tmp_path: Path) -> None:
    data = bytearray(_signed(tmp_path, with_section()))
    data[70] ^= 1
    with pytest.raises(ContentMismatchError, match="hash"):
        verify_release(opened(bytes(data)), OwnerKey(bytes(32)), None)


def test_a_file_without_a_region_is_refused(opened: Opened) -> None:
    with pytest.raises(NoRegionError):
        verify_release(opened(make_elf()), OWNER, None)


def test_a_size_beyond_every_limit_is_refused_without_reading_it(opened: Opened, tmp_path: Path) -> None:
    fd = opened(_signed(tmp_path, with_section()))
    os.truncate(tmp_path / "file-0", (1 << 32) + 1)
    with pytest.raises(ContentMismatchError, match="allowed"):
        verify_release(fd, OWNER, None)


@pytest.mark.parametrize(
    "vector", VECTORS["files"], ids=lambda vector: f"{vector['version']}-{vector['region_offset']}"
)
def test_what_the_rust_program_signed_verifies_byte_for_byte(opened: Opened, vector: dict[str, Any]) -> None:
    data = vector_file(vector)
    key = KeyPair.from_seed(bytes.fromhex(vector["owner_seed"]))
    info, _ = PatchInfo.from_postcard(bytes.fromhex(vector["patch_info_postcard"]))
    fd = opened(data)
    verify_content(fd, info, vector["region_offset"], OwnerKey(key.public))
    assert hash_both(fd, len(data), vector["region_offset"])[1].hex() == vector["file_sha512"]


def test_a_rust_program_s_own_section_verifies(opened: Opened, tmp_path: Path) -> None:
    fd = opened(_signed(tmp_path, with_section(version="0.2.2", name=".embsig")))
    assert verify_release(fd, OWNER, None).info.version == Version(0, 2, 2)
